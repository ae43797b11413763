package dataset

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// The example's tables pass a check as they are shipped.
func TestShippedData(t *testing.T) {
	for name, columns := range map[string]string{
		"bank.csv": "default_next_month PAY_6 BILL_AMT1 BILL_AMT2 BILL_AMT3 BILL_AMT4 BILL_AMT5 BILL_AMT6 PAY_AMT1 PAY_AMT2 PAY_AMT3 PAY_AMT4 PAY_AMT5 PAY_AMT6",
		"gov.csv":  "LIMIT_BAL SEX EDUCATION MARRIAGE AGE PAY_0 PAY_2 PAY_3 PAY_4 PAY_5",
	} {
		d := Dataset{Name: name, Driver: "csv", Path: name, Columns: []Column{{Name: "id", Type: table.Int, Key: true}}}
		for _, c := range strings.Fields(columns) {
			d.Columns = append(d.Columns, Column{Name: c, Type: table.Int})
		}
		src, err := Open(context.Background(), d.In(filepath.Join("..", "..", "examples", "credit", "data")))
		if err != nil {
			t.Fatal(err)
		}
		rep, err := src.Check(context.Background(), table.RuleID, 5)
		if err != nil || len(rep.Faults) > 0 {
			t.Fatalf("%s: %+v, %v", name, rep, err)
		}
		x, err := table.ReadFloats(context.Background(), src, strings.Fields(columns))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := table.Keys(context.Background(), src, table.RuleID)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"bank.csv": 28_200, "gov.csv": 27_600}[name]; keys.Len() != want || len(x[0]) != want || rep.Rows != int64(want) {
			t.Errorf("%s: %d keys, %s rows, want %d", name, keys.Len(), fmt.Sprint(len(x[0]), rep.Rows), want)
		}
	}
}
