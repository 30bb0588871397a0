package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	maxFile  = 1 << 20     // bytes; of what a setting may name
	fileTime = time.Second // for the writer of a pipe
)

// readSmallFile reads a file that a setting names. It is read again while the service runs,
// when anything may have taken its place: a pipe that nobody writes to must hold up
// neither the service nor its end, and a file without end not fill the memory. The error
// does not have the path, which may be a secret that was given in its place.
func readSmallFile(path string) ([]byte, error) {
	// Without O_NONBLOCK, to open a pipe is to wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	// Files that have no deadlines do not have to be waited for.
	_ = file.SetReadDeadline(time.Now().Add(fileTime)) //nolint:forbidigo // Deadlines are of the real clock.
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) > maxFile {
		return nil, errors.New("is larger than 1 MiB")
	}
	return content, nil
}

func withoutPath(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}
