//go:build amd64 && !purego

#include "textflag.h"

// Eight elements of GF(2^255-19) side by side, with AVX-512 IFMA.
//
// An fe8 has five limbs of 51 bits, and a limb has eight lanes of 64 bits:
// element e is Σ limb[k][e]·2^(51k). The invariant of every fe8 in memory is
// limbs below 2^51 + 2^15, so that they fit the 52 bits that VPMADD52 reads.
//
// Registers:
//	Z0-Z4    limbs of x, later carries
//	Z5       a limb of y
//	Z6-Z14   L0-L8: sums of low halves, then the limbs T0-T8 of the product
//	Z15-Z23  H1-H9: sums of high halves
//	Z24      scratch
//	Z26-Z31  constants, loaded by CONSTANTS

DATA consts<>+0(SB)/8, $38
DATA consts<>+8(SB)/8, $19
DATA consts<>+16(SB)/8, $121666            // (486662 + 2) / 4
DATA consts<>+24(SB)/8, $0x000ffffffffffffe // 2p, limbs 1 to 4
DATA consts<>+32(SB)/8, $0x000fffffffffffda // 2p, limb 0
DATA consts<>+40(SB)/8, $0x0007ffffffffffff // 2^51 - 1
GLOBL consts<>(SB), RODATA|NOPTR, $48

#define CONSTANTS \
	VPBROADCASTQ consts<>+0(SB), Z26  \
	VPBROADCASTQ consts<>+8(SB), Z27  \
	VPBROADCASTQ consts<>+16(SB), Z28 \
	VPBROADCASTQ consts<>+24(SB), Z29 \
	VPBROADCASTQ consts<>+32(SB), Z30 \
	VPBROADCASTQ consts<>+40(SB), Z31

#define LOAD(p, a, b, c, d, e) \
	VMOVDQU64 0(p), a   \
	VMOVDQU64 64(p), b  \
	VMOVDQU64 128(p), c \
	VMOVDQU64 192(p), d \
	VMOVDQU64 256(p), e

#define STORE(a, b, c, d, e, p) \
	VMOVDQU64 a, 0(p)   \
	VMOVDQU64 b, 64(p)  \
	VMOVDQU64 c, 128(p) \
	VMOVDQU64 d, 192(p) \
	VMOVDQU64 e, 256(p)

// CARRY brings limbs below 2^61 back to the invariant: each passes what is
// above 51 bits, less than 2^10, to the next one, the last times 19 to the
// first. Clobbers Z0-Z4.
#define CARRY(a, b, c, d, e) \
	VPSRLQ      $51, a, Z0  \
	VPSRLQ      $51, b, Z1  \
	VPSRLQ      $51, c, Z2  \
	VPSRLQ      $51, d, Z3  \
	VPSRLQ      $51, e, Z4  \
	VPANDQ      Z31, a, a   \
	VPANDQ      Z31, b, b   \
	VPANDQ      Z31, c, c   \
	VPANDQ      Z31, d, d   \
	VPANDQ      Z31, e, e   \
	VPMADD52LUQ Z27, Z4, a  \
	VPADDQ      Z0, b, b    \
	VPADDQ      Z1, c, c    \
	VPADDQ      Z2, d, d    \
	VPADDQ      Z3, e, e

// PRODUCT adds x·y to the pair of accumulators of its position.
#define PRODUCT(x, y, lo, hi) \
	VPMADD52LUQ y, x, lo \
	VPMADD52HUQ y, x, hi

#define ZERO(r) VPXORQ r, r, r

#define DOUBLE(r) VPADDQ r, r, r

// JOIN adds twice the high half to the low one: the high half has the weight
// 2^52, a limb 2^51.
#define JOIN(hi, lo) \
	VPADDQ hi, hi, hi \
	VPADDQ hi, lo, lo

// FOLD adds 19·h to l; h is below 15·2^52 and l with it below 2^61.
#define FOLD(h, l) \
	VPSLLQ $4, h, Z24 \
	VPADDQ h, l, l    \
	VPADDQ h, h, h    \
	VPADDQ Z24, l, l  \
	VPADDQ h, l, l

// REDUCE turns the accumulators into a product that keeps the invariant, and
// stores it at DI.
#define REDUCE \
	JOIN(Z15, Z7)                \
	JOIN(Z16, Z8)                \
	JOIN(Z17, Z9)                \
	JOIN(Z18, Z10)               \
	JOIN(Z19, Z11)               \
	JOIN(Z20, Z12)               \
	JOIN(Z21, Z13)               \
	JOIN(Z22, Z14)               \
	DOUBLE(Z23)                  \
	FOLD(Z11, Z6)                \
	FOLD(Z12, Z7)                \
	FOLD(Z13, Z8)                \
	FOLD(Z14, Z9)                \
	FOLD(Z23, Z10)               \
	CARRY(Z6, Z7, Z8, Z9, Z10)   \
	STORE(Z6, Z7, Z8, Z9, Z10, DI)

#define ZEROALL \
	ZERO(Z6)  \
	ZERO(Z7)  \
	ZERO(Z8)  \
	ZERO(Z9)  \
	ZERO(Z10) \
	ZERO(Z11) \
	ZERO(Z12) \
	ZERO(Z13) \
	ZERO(Z14) \
	ZERO(Z15) \
	ZERO(Z16) \
	ZERO(Z17) \
	ZERO(Z18) \
	ZERO(Z19) \
	ZERO(Z20) \
	ZERO(Z21) \
	ZERO(Z22) \
	ZERO(Z23)

// product: fe8 at DI = fe8 at SI times fe8 at DX; any of them may be the same.
TEXT product<>(SB), NOSPLIT|NOFRAME, $0-0
	LOAD(SI, Z0, Z1, Z2, Z3, Z4)
	ZEROALL
	VMOVDQU64 0(DX), Z5
	PRODUCT(Z0, Z5, Z6, Z15)
	PRODUCT(Z1, Z5, Z7, Z16)
	PRODUCT(Z2, Z5, Z8, Z17)
	PRODUCT(Z3, Z5, Z9, Z18)
	PRODUCT(Z4, Z5, Z10, Z19)
	VMOVDQU64 64(DX), Z5
	PRODUCT(Z0, Z5, Z7, Z16)
	PRODUCT(Z1, Z5, Z8, Z17)
	PRODUCT(Z2, Z5, Z9, Z18)
	PRODUCT(Z3, Z5, Z10, Z19)
	PRODUCT(Z4, Z5, Z11, Z20)
	VMOVDQU64 128(DX), Z5
	PRODUCT(Z0, Z5, Z8, Z17)
	PRODUCT(Z1, Z5, Z9, Z18)
	PRODUCT(Z2, Z5, Z10, Z19)
	PRODUCT(Z3, Z5, Z11, Z20)
	PRODUCT(Z4, Z5, Z12, Z21)
	VMOVDQU64 192(DX), Z5
	PRODUCT(Z0, Z5, Z9, Z18)
	PRODUCT(Z1, Z5, Z10, Z19)
	PRODUCT(Z2, Z5, Z11, Z20)
	PRODUCT(Z3, Z5, Z12, Z21)
	PRODUCT(Z4, Z5, Z13, Z22)
	VMOVDQU64 256(DX), Z5
	PRODUCT(Z0, Z5, Z10, Z19)
	PRODUCT(Z1, Z5, Z11, Z20)
	PRODUCT(Z2, Z5, Z12, Z21)
	PRODUCT(Z3, Z5, Z13, Z22)
	PRODUCT(Z4, Z5, Z14, Z23)
	REDUCE
	RET

// square: fe8 at DI = square of the fe8 at SI; they may be the same. Products
// of different limbs are taken once and doubled.
TEXT square<>(SB), NOSPLIT|NOFRAME, $0-0
	LOAD(SI, Z0, Z1, Z2, Z3, Z4)
	ZEROALL
	PRODUCT(Z0, Z1, Z7, Z16)
	PRODUCT(Z0, Z2, Z8, Z17)
	PRODUCT(Z0, Z3, Z9, Z18)
	PRODUCT(Z0, Z4, Z10, Z19)
	PRODUCT(Z1, Z4, Z11, Z20)
	PRODUCT(Z2, Z4, Z12, Z21)
	PRODUCT(Z3, Z4, Z13, Z22)
	PRODUCT(Z1, Z2, Z9, Z18)
	PRODUCT(Z1, Z3, Z10, Z19)
	PRODUCT(Z2, Z3, Z11, Z20)
	DOUBLE(Z7)
	DOUBLE(Z8)
	DOUBLE(Z9)
	DOUBLE(Z10)
	DOUBLE(Z11)
	DOUBLE(Z12)
	DOUBLE(Z13)
	DOUBLE(Z16)
	DOUBLE(Z17)
	DOUBLE(Z18)
	DOUBLE(Z19)
	DOUBLE(Z20)
	DOUBLE(Z21)
	DOUBLE(Z22)
	PRODUCT(Z0, Z0, Z6, Z15)
	PRODUCT(Z1, Z1, Z8, Z17)
	PRODUCT(Z2, Z2, Z10, Z19)
	PRODUCT(Z3, Z3, Z12, Z21)
	PRODUCT(Z4, Z4, Z14, Z23)
	REDUCE
	RET

// sumAndDifference: fe8s at DI and SI become their sum and their difference.
TEXT sumAndDifference<>(SB), NOSPLIT|NOFRAME, $0-0
	LOAD(DI, Z6, Z7, Z8, Z9, Z10)
	LOAD(SI, Z11, Z12, Z13, Z14, Z15)
	VPADDQ Z30, Z6, Z16
	VPADDQ Z29, Z7, Z17
	VPADDQ Z29, Z8, Z18
	VPADDQ Z29, Z9, Z19
	VPADDQ Z29, Z10, Z20
	VPADDQ Z11, Z6, Z6
	VPADDQ Z12, Z7, Z7
	VPADDQ Z13, Z8, Z8
	VPADDQ Z14, Z9, Z9
	VPADDQ Z15, Z10, Z10
	VPSUBQ Z11, Z16, Z16
	VPSUBQ Z12, Z17, Z17
	VPSUBQ Z13, Z18, Z18
	VPSUBQ Z14, Z19, Z19
	VPSUBQ Z15, Z20, Z20
	CARRY(Z6, Z7, Z8, Z9, Z10)
	CARRY(Z16, Z17, Z18, Z19, Z20)
	STORE(Z6, Z7, Z8, Z9, Z10, DI)
	STORE(Z16, Z17, Z18, Z19, Z20, SI)
	RET

// func mul8(z, x, y *fe8)
TEXT ·mul8(SB), NOSPLIT, $0-24
	MOVQ z+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ y+16(FP), DX
	CONSTANTS
	CALL product<>(SB)
	VZEROUPPER
	RET

// func squares8(z, x *fe8, n int)
// z = x^(2^n), n at least 1.
TEXT ·squares8(SB), NOSPLIT, $0-24
	MOVQ z+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS
again:
	CALL square<>(SB)
	MOVQ DI, SI
	DECQ CX
	JNZ  again
	VZEROUPPER
	RET

#define SIZE 320
#define x1 0
#define x2 (1*SIZE)
#define z2 (2*SIZE)
#define x3 (3*SIZE)
#define z3 (4*SIZE)
#define t0 (5*SIZE)
#define t1 (6*SIZE)

#define MUL(z, x, y) \
	LEAQ z(BX), DI \
	LEAQ x(BX), SI \
	LEAQ y(BX), DX \
	CALL product<>(SB)

#define SQUARE(z, x) \
	LEAQ z(BX), DI \
	LEAQ x(BX), SI \
	CALL square<>(SB)

#define ADDSUB(x, y) \
	LEAQ x(BX), DI \
	LEAQ y(BX), SI \
	CALL sumAndDifference<>(SB)

// SELECT copies limb k of y over that of x in all lanes if K1 is set.
#define SELECT(x, y, k) \
	VMOVDQU64 (x+64*k)(BX), Z6     \
	VMOVDQU64 (y+64*k)(BX), K1, Z6 \
	VMOVDQU64 Z6, (x+64*k)(BX)

// func ladderStep8(w *[7]fe8, b uint64)
// w is x1, x2, z2, x3, z3 and two scratch elements. (x3:z3) becomes the sum of
// the two points, (x2:z2) twice the first, or twice the second if b is 1.
TEXT ·ladderStep8(SB), NOSPLIT, $0-16
	MOVQ  w+0(FP), BX
	MOVQ  b+8(FP), AX
	NEGQ  AX
	KMOVW AX, K1
	CONSTANTS
	ADDSUB(x2, z2)
	ADDSUB(x3, z3)
	MUL(t0, x2, z3)
	MUL(t1, x3, z2)
	ADDSUB(t0, t1)
	SELECT(x2, x3, 0)
	SELECT(x2, x3, 1)
	SELECT(x2, x3, 2)
	SELECT(x2, x3, 3)
	SELECT(x2, x3, 4)
	SELECT(z2, z3, 0)
	SELECT(z2, z3, 1)
	SELECT(z2, z3, 2)
	SELECT(z2, z3, 3)
	SELECT(z2, z3, 4)
	SQUARE(x3, t0)
	SQUARE(z3, t1)
	MUL(z3, x1, z3)
	SQUARE(x2, x2)
	SQUARE(z2, z2)

	// t0 = E = x2 - z2, t1 = z2 + 121666·E
	LEAQ x2(BX), DI
	LEAQ z2(BX), SI
	LOAD(DI, Z16, Z17, Z18, Z19, Z20)
	LOAD(SI, Z6, Z7, Z8, Z9, Z10)
	VPADDQ Z30, Z16, Z16
	VPADDQ Z29, Z17, Z17
	VPADDQ Z29, Z18, Z18
	VPADDQ Z29, Z19, Z19
	VPADDQ Z29, Z20, Z20
	VPSUBQ Z6, Z16, Z16
	VPSUBQ Z7, Z17, Z17
	VPSUBQ Z8, Z18, Z18
	VPSUBQ Z9, Z19, Z19
	VPSUBQ Z10, Z20, Z20
	CARRY(Z16, Z17, Z18, Z19, Z20)
	LEAQ t0(BX), DI
	STORE(Z16, Z17, Z18, Z19, Z20, DI)
	ZERO(Z11)
	ZERO(Z12)
	ZERO(Z13)
	ZERO(Z14)
	ZERO(Z15)
	PRODUCT(Z28, Z16, Z6, Z11)
	PRODUCT(Z28, Z17, Z7, Z12)
	PRODUCT(Z28, Z18, Z8, Z13)
	PRODUCT(Z28, Z19, Z9, Z14)
	PRODUCT(Z28, Z20, Z10, Z15)
	JOIN(Z11, Z7)
	JOIN(Z12, Z8)
	JOIN(Z13, Z9)
	JOIN(Z14, Z10)
	VPMADD52LUQ Z26, Z15, Z6 // 2·19 times the topmost high half, below 2^18
	CARRY(Z6, Z7, Z8, Z9, Z10)
	LEAQ t1(BX), DI
	STORE(Z6, Z7, Z8, Z9, Z10, DI)

	MUL(x2, x2, z2)
	MUL(z2, t0, t1)
	VZEROUPPER
	RET
