//go:build !linux

package storetest

import "syscall"

// endWithTestBinary does nothing: only Linux can tie the life of a server to its parent's.
// Elsewhere a killed test binary leaves its servers behind.
func endWithTestBinary() *syscall.SysProcAttr { return nil }
