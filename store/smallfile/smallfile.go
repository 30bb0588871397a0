// Package smallfile reads the files that settings name: values of NAME_FILE variables, TLS
// certificates and keys, the JWK set, and the TLS files of MFA_REDIS_URL.
//
// The service reads such files again while it runs, when a path may name something else by
// then. A pipe without a writer would block a reload and the service's stop, and a file
// without end would fill the memory. So all of them go through one reader, which has a
// limit of size and of time, and whose errors show no path: the path may be a secret that
// was given in its place.
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
	readTime = time.Second // limit for a pipe
)

// Read returns the content of a file of at most 1 MiB. From a pipe it reads for at most 1 s.
// Its errors do not show the path.
func Read(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a pipe waits for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	// Regular files have no deadlines, and need none.
	_ = file.SetReadDeadline(time.Now().Add(readTime)) //nolint:forbidigo // A deadline is a time of the real clock.
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) > maxSize {
		return nil, errors.New("is larger than 1 MiB")
	}
	return content, nil
}

// KeyPair reads two PEM files: a certificate with its chain, and its private key. Its errors
// do not show the paths.
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
