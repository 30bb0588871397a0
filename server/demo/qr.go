package demo

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is the white margin of a QR code in modules (ISO/IEC 18004, section 5.3.8). Without
// it, some apps do not find the code.
const quietZone = 4

// QRCode is a QR code with error correction level M.
type QRCode struct{ code *qr.Code }

// NewQRCode returns the QR code of text, or an error if text is too long.
func NewQRCode(text string) (*QRCode, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	return &QRCode{code}, nil
}

// Size returns the width and height in modules, with the quiet zone.
func (q *QRCode) Size() int { return q.code.Size + 2*quietZone }

// dark tells whether a module is dark. Those outside the code are not.
func (q *QRCode) dark(x, y int) bool { return q.code.Black(x-quietZone, y-quietZone) }

// SVG returns a picture, black on white whatever the page's colours are: many apps do not read a
// light code on a dark ground.
func (q *QRCode) SVG() []byte {
	var path strings.Builder
	for y := range q.Size() {
		for x := 0; x < q.Size(); x++ {
			start := x
			for q.dark(x, y) {
				x++
			}
			if x > start {
				fmt.Fprintf(&path, "M%d %dh%dv1H%dz", start, y, x-start, start)
			}
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" width="%[2]d" height="%[2]d" shape-rendering="crispEdges">`+
		`<path fill="#fff" d="M0 0h%[1]dv%[1]dH0z"/><path d="%[3]s"/></svg>`, q.Size(), 8*q.Size(), &path)
}

// HalfBlocks returns the code as text for a terminal, two modules in each character. It sets both
// colours, black and white of the 256: a terminal's own colours may be the other way round.
func (q *QRCode) HalfBlocks() string {
	var text strings.Builder
	for y := 0; y < q.Size(); y += 2 {
		text.WriteString("\x1b[38;5;16;48;5;231m")
		for x := range q.Size() {
			upper, lower := q.dark(x, y), q.dark(x, y+1)
			switch {
			case upper && lower:
				text.WriteString("█")
			case upper:
				text.WriteString("▀")
			case lower:
				text.WriteString("▄")
			default:
				text.WriteString(" ")
			}
		}
		text.WriteString("\x1b[0m\n")
	}
	return text.String()
}
