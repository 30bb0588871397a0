package storetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// arguments returns the arguments of a command, which is an array of bulk strings.
func arguments(raw []byte) []string {
	var args []string
	_, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	for len(rest) > 0 {
		header, body, _ := bytes.Cut(rest, []byte("\r\n"))
		n, err := strconv.Atoi(strings.TrimPrefix(string(header), "$"))
		if err != nil || len(body) < n+2 {
			return nil
		}
		args, rest = append(args, string(body[:n])), body[n+2:]
	}
	return args
}

// readReply returns the bytes of one reply in RESP2 or RESP3. A reply is a line. A line that
// announces a string (bulk, verbatim, long error) is followed by the string, and a line that
// announces an aggregate (array, map, set, push) is followed by its elements.
func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	kind, count := line[0], 0
	if strings.IndexByte("$=!*~>%|", kind) >= 0 {
		if count, err = strconv.Atoi(strings.TrimSpace(string(line[1:]))); err != nil {
			return nil, fmt.Errorf("reply %q: %w", line, err)
		}
	}
	switch kind {
	case '$', '=', '!':
		if count < 0 {
			return line, nil
		}
		blob := make([]byte, count+2)
		_, err = io.ReadFull(r, blob)
		return append(line, blob...), err
	case '%', '|':
		count *= 2
	}
	for range count {
		part, err := readReply(r)
		if err != nil {
			return nil, err
		}
		line = append(line, part...)
	}
	return line, nil
}
