package stats

import (
	"context"
	"math"
)

// keep drops the rows that a filter does not let through.
func (c *counting) keep(ctx context.Context, f *matcher) error {
	in := &c.in[f.col]
	kept := c.rows[:0]
	for _, r := range c.rows {
		if in.nulls && in.array.IsNull(int(r)) {
			if !c.form.skips() {
				return c.fail(ctx, r, f.col, ErrMissing)
			}
			continue
		}
		ok := false
		switch {
		case f.list && in.texts != nil:
			_, ok = f.texts[in.texts.Value(int(r))]
			ok = ok != f.not
		case f.list:
			_, ok = f.ints[in.ints[r]]
			ok = ok != f.not
		case in.ints != nil:
			ok = f.within(in.ints[r])
		default:
			x := in.floats[r]
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return c.fail(ctx, r, f.col, ErrFinite)
			}
			ok = f.min <= x && x <= f.max
		}
		if ok {
			kept = append(kept, r)
		}
	}
	c.rows = kept
	return nil
}

// classify adds a dimension's category to the cells of all rows. The cell of a
// row that is left out becomes negative and stays so.
func (c *counting) classify(ctx context.Context, l *lookup, stride int32) error {
	const out = math.MinInt32
	in := &c.in[l.col]
	for i, r := range c.rows {
		if in.nulls && in.array.IsNull(int(r)) {
			if !c.form.skips() {
				return c.fail(ctx, r, l.col, ErrMissing)
			}
			c.cell[i] = out
			continue
		}
		var k int32
		switch {
		case l.edges != nil:
			x, err := in.number(r)
			if err != nil {
				return c.fail(ctx, r, l.col, err)
			}
			k = l.bin(x)
		case in.texts != nil:
			k = l.text(in.texts.Value(int(r)))
		default:
			k = l.int(in.ints[r])
		}
		if k < 0 {
			if c.cell[i] < 0 {
				continue
			}
			return c.fail(ctx, r, l.col, ErrDomain)
		}
		c.cell[i] += k * stride
	}
	return nil
}

// number returns a row's finite number.
func (in *input) number(r int32) (float64, error) {
	if in.ints != nil {
		return float64(in.ints[r]), nil
	}
	x := in.floats[r]
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, ErrFinite
	}
	return x, nil
}

// compact drops the rows that classify left out.
func (c *counting) compact() {
	n := 0
	for i, k := range c.cell {
		if k >= 0 {
			c.rows[n], c.cell[n] = c.rows[i], k
			n++
		}
	}
	c.rows, c.cell = c.rows[:n], c.cell[:n]
}

// read fills nums and has of a column: whole units, or numbers of bins, and 0
// where the value is missing.
func (c *counting) read(ctx context.Context, i int) error {
	col, at := &c.columns[i], c.source[i]
	in := &c.in[at]
	nums := c.nums[i][:len(c.rows)]
	c.nums[i] = nums
	has, missing := c.has[i][:0], false
	if in.nulls {
		for _, r := range c.rows {
			ok := !in.array.IsNull(int(r))
			if !ok && !c.form.skips() {
				return c.fail(ctx, r, at, ErrMissing)
			}
			missing = missing || !ok
			has = append(has, ok)
		}
	}
	if c.has[i] = has; !missing {
		c.has[i] = has[:0]
	}
	for k, r := range c.rows {
		if missing && !has[k] {
			nums[k] = 0
			continue
		}
		switch col.kind {
		case summed:
			var v int64
			if in.ints != nil {
				whole := int64(MaxUnits / powers[col.scale])
				v = in.ints[r]
				if v < -whole || v > whole {
					return c.fail(ctx, r, at, ErrRange)
				}
				v *= int64(powers[col.scale])
			} else {
				x, err := in.number(r)
				if err != nil {
					return c.fail(ctx, r, at, err)
				}
				u, fault := toUnits(x, col.scale)
				switch fault {
				case notWhole:
					return c.fail(ctx, r, at, ErrDecimals)
				case tooLarge:
					return c.fail(ctx, r, at, ErrRange)
				}
				v = u
			}
			if v < col.lo || v > col.hi {
				return c.fail(ctx, r, at, ErrRange)
			}
			nums[k] = v
		case binned:
			x, err := in.number(r)
			if err != nil {
				return c.fail(ctx, r, at, err)
			}
			b := findBin(col.edges, x, false)
			if b < 0 {
				return c.fail(ctx, r, at, ErrRange)
			}
			nums[k] = int64(b)
		default:
			nums[k] = 0
			if in.floats != nil {
				if _, err := in.number(r); err != nil {
					return c.fail(ctx, r, at, err)
				}
			}
		}
	}
	return nil
}
