//go:build amd64 && !purego

#include "textflag.h"

// func multiplyBlockAVX(out *[64]gf128.Element, z *[128]gf128.Element, m *[64]uint64, scratch *[256]gf128.Element)
TEXT ·multiplyBlockAVX(SB), NOSPLIT, $0-32
	MOVQ  out+0(FP), DI
	MOVQ  z+8(FP), SI
	MOVQ  m+16(FP), R8
	MOVQ  scratch+24(FP), BX
	VPXOR X15, X15, X15

	// 16 tables of the sums of four elements, those of the second half.
	LEAQ 1024(SI), R9
	MOVQ BX, R10
	MOVQ $16, R11

table:
	VMOVDQU 0(R9), X1
	VMOVDQU 16(R9), X2
	VMOVDQU 32(R9), X4
	VMOVDQU 48(R9), X8
	VPXOR   X1, X2, X3
	VPXOR   X1, X4, X5
	VPXOR   X2, X4, X6
	VPXOR   X3, X4, X7
	VMOVDQU X15, 0(R10)
	VMOVDQU X1, 16(R10)
	VMOVDQU X2, 32(R10)
	VMOVDQU X3, 48(R10)
	VMOVDQU X4, 64(R10)
	VMOVDQU X5, 80(R10)
	VMOVDQU X6, 96(R10)
	VMOVDQU X7, 112(R10)
	VMOVDQU X8, 128(R10)
	VPXOR   X1, X8, X1
	VPXOR   X2, X8, X2
	VPXOR   X3, X8, X3
	VPXOR   X4, X8, X4
	VPXOR   X5, X8, X5
	VPXOR   X6, X8, X6
	VPXOR   X7, X8, X7
	VMOVDQU X1, 144(R10)
	VMOVDQU X2, 160(R10)
	VMOVDQU X3, 176(R10)
	VMOVDQU X4, 192(R10)
	VMOVDQU X5, 208(R10)
	VMOVDQU X6, 224(R10)
	VMOVDQU X7, 240(R10)
	ADDQ    $64, R9
	ADDQ    $256, R10
	DECQ    R11
	JNE     table

	// A nibble times 16, an entry's size, is what a byte has in its upper half.
	MOVQ $0xf0f0f0f0f0f0f0f0, R12
	MOVQ $64, R11

// TWO adds the entries that the lowest two bytes of AX name to X0 and X1; the
// tables of even nibbles are 512 bytes apart, as are those of odd ones.
#define TWO(at) \
	MOVBLZX AX, CX                    \
	MOVBLZX AH, DX                    \
	SHRQ    $16, AX                   \
	VPXOR   at(BX)(CX*1), X0, X0      \
	VPXOR   (at+512)(BX)(DX*1), X1, X1

row:
	MOVQ    (R8), AX
	MOVQ    AX, R13
	VMOVDQU (SI), X0
	VPXOR   X1, X1, X1
	SHLQ    $4, AX
	ANDQ    R12, AX
	ANDQ    R12, R13
	TWO(0)
	TWO(1024)
	TWO(2048)
	TWO(3072)
	MOVQ    R13, AX
	TWO(256)
	TWO(1280)
	TWO(2304)
	TWO(3328)
	VPXOR   X1, X0, X0
	VMOVDQU X0, (DI)
	ADDQ    $8, R8
	ADDQ    $16, SI
	ADDQ    $16, DI
	DECQ    R11
	JNE     row
	RET
