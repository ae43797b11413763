//go:build amd64 && !purego

#include "textflag.h"

// Products in GF(2^128) with VPCLMULQDQ on 128-bit registers. X15 holds
// X^7 + X^2 + X + 1 in its low half throughout.

DATA poly<>+0(SB)/8, $0x87
DATA poly<>+8(SB)/8, $0
GLOBL poly<>(SB), RODATA|NOPTR, $16

// PRODUCT sets hi:lo to the product of a and b, 255 bits. m and t are scratch.
#define PRODUCT(a, b, hi, lo, m, t) \
	VPCLMULQDQ $0x00, b, a, lo \
	VPCLMULQDQ $0x11, b, a, hi \
	VPCLMULQDQ $0x01, b, a, m  \
	VPCLMULQDQ $0x10, b, a, t  \
	VPXOR      t, m, m         \
	VPSLLDQ    $8, m, t        \
	VPSRLDQ    $8, m, m        \
	VPXOR      t, lo, lo       \
	VPXOR      m, hi, hi

// REDUCE folds hi into lo, its upper half first. t and u are scratch.
#define REDUCE(hi, lo, t, u) \
	VPCLMULQDQ $0x01, X15, hi, t \
	VPSLLDQ    $8, t, u          \
	VPSRLDQ    $8, t, t          \
	VPXOR      u, lo, lo         \
	VPXOR      t, hi, hi         \
	VPCLMULQDQ $0x00, X15, hi, t \
	VPXOR      t, lo, lo

// func mulCLMUL(z, a, b *Element)
TEXT ·mulCLMUL(SB), NOSPLIT, $0-24
	MOVQ    z+0(FP), DI
	MOVQ    a+8(FP), SI
	MOVQ    b+16(FP), DX
	VMOVDQU poly<>(SB), X15
	VMOVDQU (SI), X0
	VMOVDQU (DX), X1
	PRODUCT(X0, X1, X2, X3, X4, X5)
	REDUCE(X2, X3, X4, X5)
	VMOVDQU X3, (DI)
	RET

// func mulAddCLMUL(dst, a, s *Element, n int)
TEXT ·mulAddCLMUL(SB), NOSPLIT, $0-32
	MOVQ    dst+0(FP), DI
	MOVQ    a+8(FP), SI
	MOVQ    s+16(FP), DX
	MOVQ    n+24(FP), CX
	VMOVDQU poly<>(SB), X15
	VMOVDQU (DX), X14

two:
	CMPQ    CX, $2
	JLT     one
	VMOVDQU 0(SI), X0
	VMOVDQU 16(SI), X6
	PRODUCT(X0, X14, X1, X2, X3, X4)
	PRODUCT(X6, X14, X7, X8, X9, X10)
	REDUCE(X1, X2, X3, X4)
	REDUCE(X7, X8, X9, X10)
	VPXOR   0(DI), X2, X2
	VPXOR   16(DI), X8, X8
	VMOVDQU X2, 0(DI)
	VMOVDQU X8, 16(DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $2, CX
	JMP     two

one:
	TESTQ   CX, CX
	JEQ     done
	VMOVDQU (SI), X0
	PRODUCT(X0, X14, X1, X2, X3, X4)
	REDUCE(X1, X2, X3, X4)
	VPXOR   (DI), X2, X2
	VMOVDQU X2, (DI)

done:
	RET

// SHORT sets z to the product of z and the low half of h, reduced: 191 bits,
// of which 63 are folded. t and u are scratch.
#define SHORT(h, z, t, u) \
	VPCLMULQDQ $0x10, z, h, t   \
	VPCLMULQDQ $0x00, z, h, z   \
	VPSLLDQ    $8, t, u         \
	VPCLMULQDQ $0x01, X15, t, t \
	VPXOR      u, z, z          \
	VPXOR      t, z, z

// func addCubicCLMUL(dst *Element, h *uint64, d *[3]Element, n int)
//
// Horner's rule is a chain of products, so four rows go at once.
TEXT ·addCubicCLMUL(SB), NOSPLIT, $0-32
	MOVQ    dst+0(FP), DI
	MOVQ    h+8(FP), SI
	MOVQ    d+16(FP), DX
	MOVQ    n+24(FP), CX
	VMOVDQU poly<>(SB), X15

four:
	CMPQ    CX, $4
	JLT     one
	VMOVQ   0(SI), X0
	VMOVQ   8(SI), X1
	VMOVQ   16(SI), X2
	VMOVQ   24(SI), X3
	VMOVDQU 32(DX), X4
	VMOVDQA X4, X5
	VMOVDQA X4, X6
	VMOVDQA X4, X7
	VMOVDQU 16(DX), X8
	SHORT(X0, X4, X9, X10)
	SHORT(X1, X5, X11, X12)
	SHORT(X2, X6, X13, X14)
	SHORT(X3, X7, X9, X10)
	VPXOR   X8, X4, X4
	VPXOR   X8, X5, X5
	VPXOR   X8, X6, X6
	VPXOR   X8, X7, X7
	VMOVDQU 0(DX), X8
	SHORT(X0, X4, X9, X10)
	SHORT(X1, X5, X11, X12)
	SHORT(X2, X6, X13, X14)
	SHORT(X3, X7, X9, X10)
	VPXOR   X8, X4, X4
	VPXOR   X8, X5, X5
	VPXOR   X8, X6, X6
	VPXOR   X8, X7, X7
	SHORT(X0, X4, X9, X10)
	SHORT(X1, X5, X11, X12)
	SHORT(X2, X6, X13, X14)
	SHORT(X3, X7, X9, X10)
	VPXOR   0(DI), X4, X4
	VPXOR   16(DI), X5, X5
	VPXOR   32(DI), X6, X6
	VPXOR   48(DI), X7, X7
	VMOVDQU X4, 0(DI)
	VMOVDQU X5, 16(DI)
	VMOVDQU X6, 32(DI)
	VMOVDQU X7, 48(DI)
	ADDQ    $32, SI
	ADDQ    $64, DI
	SUBQ    $4, CX
	JMP     four

one:
	TESTQ   CX, CX
	JEQ     done
	VMOVQ   (SI), X0
	VMOVDQU 32(DX), X4
	SHORT(X0, X4, X9, X10)
	VPXOR   16(DX), X4, X4
	SHORT(X0, X4, X9, X10)
	VPXOR   0(DX), X4, X4
	SHORT(X0, X4, X9, X10)
	VPXOR   (DI), X4, X4
	VMOVDQU X4, (DI)
	ADDQ    $8, SI
	ADDQ    $16, DI
	DECQ    CX
	JMP     one

done:
	RET
