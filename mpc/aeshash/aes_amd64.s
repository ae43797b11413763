//go:build amd64 && !purego

#include "textflag.h"

// AES-128 with AES-NI, eight blocks at a time: AESENC takes several cycles and
// a new one can begin in each.

// NEXT derives the round key in X0 from the one before, and stores it.
#define NEXT(rcon, at) \
	VAESKEYGENASSIST $rcon, X0, X1 \
	VPSHUFD          $0xff, X1, X1 \
	VPSLLDQ          $4, X0, X2    \
	VPXOR            X2, X0, X0    \
	VPSLLDQ          $4, X2, X2    \
	VPXOR            X2, X0, X0    \
	VPSLLDQ          $4, X2, X2    \
	VPXOR            X2, X0, X0    \
	VPXOR            X1, X0, X0    \
	VMOVDQU          X0, at(DI)

// func expandKeyNI(s *schedule, key *[16]byte)
TEXT ·expandKeyNI(SB), NOSPLIT, $0-16
	MOVQ    s+0(FP), DI
	MOVQ    key+8(FP), SI
	VMOVDQU (SI), X0
	VMOVDQU X0, (DI)
	NEXT(0x01, 16)
	NEXT(0x02, 32)
	NEXT(0x04, 48)
	NEXT(0x08, 64)
	NEXT(0x10, 80)
	NEXT(0x20, 96)
	NEXT(0x40, 112)
	NEXT(0x80, 128)
	NEXT(0x1b, 144)
	NEXT(0x36, 160)
	RET

// EIGHT applies op with one round key to eight blocks.
#define EIGHT(op, key) \
	op key, X0, X0 \
	op key, X1, X1 \
	op key, X2, X2 \
	op key, X3, X3 \
	op key, X4, X4 \
	op key, X5, X5 \
	op key, X6, X6 \
	op key, X7, X7

#define ROUND8(at) \
	VMOVDQU at(AX), X8 \
	EIGHT(VAESENC, X8)

// func hashNI(s *schedule, dst, src *gf128.Element, n int)
TEXT ·hashNI(SB), NOSPLIT, $0-32
	MOVQ s+0(FP), AX
	MOVQ dst+8(FP), DI
	MOVQ src+16(FP), SI
	MOVQ n+24(FP), CX

eight:
	CMPQ    CX, $8
	JLT     one
	VMOVDQU 0(AX), X8
	VPXOR   0(SI), X8, X0
	VPXOR   16(SI), X8, X1
	VPXOR   32(SI), X8, X2
	VPXOR   48(SI), X8, X3
	VPXOR   64(SI), X8, X4
	VPXOR   80(SI), X8, X5
	VPXOR   96(SI), X8, X6
	VPXOR   112(SI), X8, X7
	ROUND8(16)
	ROUND8(32)
	ROUND8(48)
	ROUND8(64)
	ROUND8(80)
	ROUND8(96)
	ROUND8(112)
	ROUND8(128)
	ROUND8(144)
	VMOVDQU 160(AX), X8
	EIGHT(VAESENCLAST, X8)
	VPXOR   0(SI), X0, X0
	VPXOR   16(SI), X1, X1
	VPXOR   32(SI), X2, X2
	VPXOR   48(SI), X3, X3
	VPXOR   64(SI), X4, X4
	VPXOR   80(SI), X5, X5
	VPXOR   96(SI), X6, X6
	VPXOR   112(SI), X7, X7
	VMOVDQU X0, 0(DI)
	VMOVDQU X1, 16(DI)
	VMOVDQU X2, 32(DI)
	VMOVDQU X3, 48(DI)
	VMOVDQU X4, 64(DI)
	VMOVDQU X5, 80(DI)
	VMOVDQU X6, 96(DI)
	VMOVDQU X7, 112(DI)
	ADDQ    $128, SI
	ADDQ    $128, DI
	SUBQ    $8, CX
	JMP     eight

one:
	TESTQ       CX, CX
	JEQ         done
	VMOVDQU     (SI), X1
	VPXOR       0(AX), X1, X0
	VAESENC     16(AX), X0, X0
	VAESENC     32(AX), X0, X0
	VAESENC     48(AX), X0, X0
	VAESENC     64(AX), X0, X0
	VAESENC     80(AX), X0, X0
	VAESENC     96(AX), X0, X0
	VAESENC     112(AX), X0, X0
	VAESENC     128(AX), X0, X0
	VAESENC     144(AX), X0, X0
	VAESENCLAST 160(AX), X0, X0
	VPXOR       X1, X0, X0
	VMOVDQU     X0, (DI)
	ADDQ        $16, SI
	ADDQ        $16, DI
	DECQ        CX
	JMP         one

done:
	RET

// PAIRS applies op to the even blocks with one round key and to the odd ones
// with another.
#define PAIRS(op, left, right) \
	op left, X0, X0  \
	op right, X1, X1 \
	op left, X2, X2  \
	op right, X3, X3 \
	op left, X4, X4  \
	op right, X5, X5 \
	op left, X6, X6  \
	op right, X7, X7

#define ROUNDPAIRS(at) \
	VMOVDQU at(AX), X14 \
	VMOVDQU at(BX), X15 \
	PAIRS(VAESENC, X14, X15)

// BOTH is one round of one pair.
#define BOTH(at) \
	VAESENC at(AX), X0, X0 \
	VAESENC at(BX), X1, X1

// func expandNI(left, right *schedule, dst, src *gf128.Element, n int, sums *[2]gf128.Element)
TEXT ·expandNI(SB), NOSPLIT, $0-48
	MOVQ    left+0(FP), AX
	MOVQ    right+8(FP), BX
	MOVQ    dst+16(FP), DI
	MOVQ    src+24(FP), SI
	MOVQ    n+32(FP), CX
	MOVQ    sums+40(FP), DX
	VMOVDQU 0(DX), X12
	VMOVDQU 16(DX), X13

four:
	CMPQ    CX, $4
	JLT     one
	VMOVDQU 0(SI), X8
	VMOVDQU 16(SI), X9
	VMOVDQU 32(SI), X10
	VMOVDQU 48(SI), X11
	VMOVDQU 0(AX), X14
	VMOVDQU 0(BX), X15
	VPXOR   X14, X8, X0
	VPXOR   X15, X8, X1
	VPXOR   X14, X9, X2
	VPXOR   X15, X9, X3
	VPXOR   X14, X10, X4
	VPXOR   X15, X10, X5
	VPXOR   X14, X11, X6
	VPXOR   X15, X11, X7
	ROUNDPAIRS(16)
	ROUNDPAIRS(32)
	ROUNDPAIRS(48)
	ROUNDPAIRS(64)
	ROUNDPAIRS(80)
	ROUNDPAIRS(96)
	ROUNDPAIRS(112)
	ROUNDPAIRS(128)
	ROUNDPAIRS(144)
	VMOVDQU 160(AX), X14
	VMOVDQU 160(BX), X15
	PAIRS(VAESENCLAST, X14, X15)
	VPXOR   X8, X0, X0
	VPXOR   X8, X1, X1
	VPXOR   X9, X2, X2
	VPXOR   X9, X3, X3
	VPXOR   X10, X4, X4
	VPXOR   X10, X5, X5
	VPXOR   X11, X6, X6
	VPXOR   X11, X7, X7
	VMOVDQU X0, 0(DI)
	VMOVDQU X1, 16(DI)
	VMOVDQU X2, 32(DI)
	VMOVDQU X3, 48(DI)
	VMOVDQU X4, 64(DI)
	VMOVDQU X5, 80(DI)
	VMOVDQU X6, 96(DI)
	VMOVDQU X7, 112(DI)
	VPXOR   X0, X2, X0
	VPXOR   X4, X6, X4
	VPXOR   X1, X3, X1
	VPXOR   X5, X7, X5
	VPXOR   X0, X12, X12
	VPXOR   X1, X13, X13
	VPXOR   X4, X12, X12
	VPXOR   X5, X13, X13
	ADDQ    $64, SI
	ADDQ    $128, DI
	SUBQ    $4, CX
	JMP     four

one:
	TESTQ       CX, CX
	JEQ         done
	VMOVDQU     (SI), X8
	VPXOR       0(AX), X8, X0
	VPXOR       0(BX), X8, X1
	BOTH(16)
	BOTH(32)
	BOTH(48)
	BOTH(64)
	BOTH(80)
	BOTH(96)
	BOTH(112)
	BOTH(128)
	BOTH(144)
	VAESENCLAST 160(AX), X0, X0
	VAESENCLAST 160(BX), X1, X1
	VPXOR       X8, X0, X0
	VPXOR       X8, X1, X1
	VMOVDQU     X0, 0(DI)
	VMOVDQU     X1, 16(DI)
	VPXOR       X0, X12, X12
	VPXOR       X1, X13, X13
	ADDQ        $16, SI
	ADDQ        $32, DI
	DECQ        CX
	JMP         one

done:
	VMOVDQU X12, 0(DX)
	VMOVDQU X13, 16(DX)
	RET
