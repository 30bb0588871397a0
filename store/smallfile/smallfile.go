// Package smallfile reads the files that settings name.
package smallfile

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	maxSize  = 1 << 20     // bytes
	readTime = time.Second // for the writer of a pipe
)

// Read reads a file of at most 1 MiB. It is read again while the service runs, when anything
// may have taken its place: a pipe that nobody writes to must hold up neither the service
// nor its end, and a file without end not fill the memory. The error does not have the path,
// which may be a secret that was given in its place.
func Read(path string) ([]byte, error) {
	// Without O_NONBLOCK, to open a pipe is to wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	// Files that have no deadlines do not have to be waited for.
	_ = file.SetReadDeadline(time.Now().Add(readTime)) //nolint:forbidigo // Deadlines are of the real clock.
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) > maxSize {
		return nil, errors.New("is larger than 1 MiB")
	}
	return content, nil
}

// KeyPair reads two PEM files: the chain of a certificate, and its private key.
func KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	chain, err := Read(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := Read(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(chain, key)
}

func withoutPath(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}
