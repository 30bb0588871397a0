package demo

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"rsc.io/qr"
)

const testURL = "otpauth://totp/quiva.ai:ada@example.com?secret=TPQGLR5V5QWJUG5MEVIVX4GVEXOCQQOP&issuer=quiva.ai"

// newTestCode returns the code of testURL and its modules: # is dark. They come from rsc.io/qr,
// with a quiet zone of four.
func newTestCode(t *testing.T) (code *QRCode, modules []string) {
	t.Helper()
	code, err := NewQRCode(testURL)
	if err != nil {
		t.Fatal(err)
	}
	want, err := qr.Encode(testURL, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	for y := -4; y < want.Size+4; y++ {
		row := ""
		for x := -4; x < want.Size+4; x++ {
			row += map[bool]string{true: "#", false: "."}[want.Black(x, y)]
		}
		modules = append(modules, row)
	}
	return code, modules
}

func TestQRCode_SVGHasTheModulesAndAQuietZone(t *testing.T) {
	code, want := newTestCode(t)
	svg := string(code.SVG())
	if !strings.HasPrefix(svg, fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d"`, len(want))) {
		t.Errorf("%.100s; want a box of %d modules", svg, len(want))
	}
	got := make([][]byte, len(want))
	for y := range got {
		got[y] = []byte(strings.Repeat(".", len(want)))
	}
	for _, run := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1H(\d+)z`).FindAllString(svg, -1) {
		var x, y, width, back int
		if _, err := fmt.Sscanf(run, "M%d %dh%dv1H%dz", &x, &y, &width, &back); err != nil || back != x {
			t.Fatalf("%s: %v", run, err)
		}
		copy(got[y][x:], strings.Repeat("#", width))
	}
	var rows []string
	for _, row := range got {
		rows = append(rows, string(row))
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error("(-want +got)", diff)
	}
}

func TestQRCode_HalfBlocksHaveTheModulesInFixedColours(t *testing.T) {
	code, want := newTestCode(t)
	want = append(want, strings.Repeat(".", len(want))) // the lower half of the last line
	var got []string
	for line := range strings.Lines(code.HalfBlocks()) {
		line, black := strings.CutPrefix(line, "\x1b[38;5;16;48;5;231m")
		line, reset := strings.CutSuffix(line, "\x1b[0m\n")
		if !black || !reset {
			t.Fatalf("%q does not set and reset its colours", line)
		}
		got = append(got, strings.NewReplacer("█", "#", "▀", "#", "▄", ".", " ", ".").Replace(line),
			strings.NewReplacer("█", "#", "▀", ".", "▄", "#", " ", ".").Replace(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got)", diff)
	}
}

func TestNewQRCode_RefusesLongText(t *testing.T) {
	if _, err := NewQRCode(strings.Repeat("x", 3000)); err == nil {
		t.Error("want an error: the largest code holds 2331 bytes")
	}
}

// README.md says what a QR code costs beside a response without one.
func BenchmarkQRCode_SVG(b *testing.B) {
	for b.Loop() {
		code, err := NewQRCode(testURL)
		if err != nil || len(code.SVG()) == 0 {
			b.Fatal(err)
		}
	}
}
