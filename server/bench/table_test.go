//go:build bench

package bench

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"text/tabwriter"
)

// table has a column for each server or condition, and a row for each figure.
type table struct {
	title   string
	figures []string
	columns []column
	ratios  []ratio
}

// column has the values of one server or condition, by round and by figure.
type column struct {
	name   string
	rounds [][]float64
}

// ratio compares two columns.
type ratio struct{ numerator, denominator int }

// add appends the values of a round to a column.
func (t *table) add(column int, values ...float64) {
	t.columns[column].rounds = append(t.columns[column].rounds, values)
}

// values returns a figure in all rounds of a column, sorted.
func (t *table) values(figure, column int) (values []float64) {
	for _, round := range t.columns[column].rounds {
		values = append(values, round[figure])
	}
	slices.Sort(values)
	return values
}

// compare returns the ratio of two columns in each round, sorted.
func (t *table) compare(figure int, r ratio) (values []float64) {
	for i, round := range t.columns[r.numerator].rounds {
		values = append(values, round[figure]/t.columns[r.denominator].rounds[i][figure])
	}
	slices.Sort(values)
	return values
}

func (t *table) print(tb testing.TB) {
	tb.Helper()
	fmt.Fprintf(os.Stdout, "\n%s: %s; rounds: %d\n", tb.Name(), t.title, len(t.columns[0].rounds))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, c := range t.columns {
		fmt.Fprint(w, "\t", c.name)
	}
	for _, r := range t.ratios {
		fmt.Fprint(w, "\t", t.columns[r.numerator].name, " / ", t.columns[r.denominator].name)
	}
	fmt.Fprintln(w)
	for figure, name := range t.figures {
		fmt.Fprint(w, name)
		for column := range t.columns {
			fmt.Fprint(w, "\t", spread(t.values(figure, column)))
		}
		for _, r := range t.ratios {
			fmt.Fprint(w, "\t", spread(t.compare(figure, r)))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread formats the median, and in parentheses the least and the greatest value.
func spread(sorted []float64) string {
	n := len(sorted)
	if n == 1 {
		return short(sorted[0])
	}
	return fmt.Sprintf("%s (%s to %s)", short(median(sorted)), short(sorted[0]), short(sorted[n-1]))
}

// short formats a number with three digits, or with all digits before the point.
func short(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "-"
	}
	decimals := 0
	for limit := 100.0; decimals < 2 && x < limit; limit /= 10 {
		decimals++
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
