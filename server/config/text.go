package config

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errQuoted = errors.New("is in quotes: remove them, because env files make them part of the value")
	errSpace  = errors.New("begins or ends with white space")
	errHidden = errors.New("has a line break or another character that cannot be shown")
)

// trimLineBreaks removes the line breaks at the end of a text. Editors, echo and here-documents
// add them, to the values of variables as to files.
func trimLineBreaks(text string) string { return strings.TrimRight(text, "\r\n") }

// checkText refuses text that is not what an operator sees: text in quotes, with white space at
// an end, or with characters that cannot be shown. Such an issuer or HMAC secret would refuse
// every token. A list may have white space, line breaks among it, between its items.
//
// A secret may begin or end with a quotation mark, because random text does. It may not do both,
// nor be in quotes before a comment.
func (s setting) checkText(text string) error {
	if s.list {
		text = strings.Join(strings.Fields(text), " ")
	}
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, `\`)) // \" is an escaped quote
	last, _ := utf8.DecodeLastRuneInString(text)
	begins, ends := isQuote(first), isQuote(last)
	switch {
	case begins && ends, !s.secret && (begins || ends), quotedWithComment.MatchString(text):
		return errQuoted
	case strings.TrimSpace(text) != text:
		return errSpace
	case HasHidden(text):
		return errHidden
	}
	return nil
}

// quotedWithComment matches text in quotes with a comment or a semicolon behind it.
var quotedWithComment = regexp.MustCompile(`^(?:"[^"]*"|'[^']*')\s*[;#]`)

func isQuote(r rune) bool { return r == '`' || unicode.Is(unicode.Quotation_Mark, r) }

// HasHidden tells whether text has a line break or another character that cannot be shown, or
// is not UTF-8. Such text is not what an operator sees.
func HasHidden(text string) bool { return strings.ContainsFunc(text, isHidden) }

// isHidden tells whether r has no form of its own. Of the spaces, only ASCII's is none of these.
// RuneError stands for bytes that are not UTF-8. U+2800 is the blank of Braille.
func isHidden(r rune) bool {
	return r == utf8.RuneError || r == 0x2800 || !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}
