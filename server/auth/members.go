package auth

import (
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// readMembers calls read with each member of the JSON object in data. It returns the first
// error of read, or an error if data is not UTF-8, is not one object, or has two members of
// one name (RFC 7515, RFC 7517 and RFC 7519, section 4 of each). Names are compared as they
// are, without folding of case.
//
// A value only has to follow the grammar of RFC 8259: an object in it may have a name twice,
// and a string a lone surrogate. Members that we do not read are not judged further. read
// refuses what it cannot take from the others. It must not keep value.
func readMembers(data []byte, read memberReader) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	return json.Unmarshal(data, &read, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

type memberReader func(name string, value jsontext.Value) error

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (read memberReader) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return errors.New("not an object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.PeekKind() != jsontext.KindEndObject {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if seen[name] {
			return errors.New("two members of one name")
		}
		seen[name] = true
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if err := read(name, value); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// text is a JSON string. Unlike string, it is not null.
type text string

// read sets t. It refuses lone surrogates: they stand for no character.
func (t *text) read(value jsontext.Value) error {
	if value.Kind() != jsontext.KindString {
		return errors.New("not a string")
	}
	var buffer [64]byte // on the stack
	unquoted, err := jsontext.AppendUnquote(buffer[:0], value)
	*t = text(unquoted)
	return err
}
