//go:build amd64 && !purego

#include "textflag.h"

// LANES sets dst to dst OP src, 128 bytes a turn.
#define LANES(OP) \
	MOVQ dst+0(FP), DI       \
	MOVQ src+8(FP), SI       \
	MOVQ n+16(FP), CX        \
turn:                        \
	VMOVDQU 0(DI), Y0        \
	VMOVDQU 32(DI), Y1       \
	VMOVDQU 64(DI), Y2       \
	VMOVDQU 96(DI), Y3       \
	OP      0(SI), Y0, Y0    \
	OP      32(SI), Y1, Y1   \
	OP      64(SI), Y2, Y2   \
	OP      96(SI), Y3, Y3   \
	VMOVDQU Y0, 0(DI)        \
	VMOVDQU Y1, 32(DI)       \
	VMOVDQU Y2, 64(DI)       \
	VMOVDQU Y3, 96(DI)       \
	ADDQ    $128, DI         \
	ADDQ    $128, SI         \
	SUBQ    $128, CX         \
	JNE     turn             \
	VZEROUPPER               \
	RET

// func add32AVX2(dst, src *byte, n int)
TEXT ·add32AVX2(SB), NOSPLIT, $0-24
	LANES(VPADDD)

// func sub32AVX2(dst, src *byte, n int)
TEXT ·sub32AVX2(SB), NOSPLIT, $0-24
	LANES(VPSUBD)

// func add64AVX2(dst, src *byte, n int)
TEXT ·add64AVX2(SB), NOSPLIT, $0-24
	LANES(VPADDQ)

// func sub64AVX2(dst, src *byte, n int)
TEXT ·sub64AVX2(SB), NOSPLIT, $0-24
	LANES(VPSUBQ)
