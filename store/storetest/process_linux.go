package storetest

import "syscall"

// endWithTestBinary has the kernel kill a server when the test binary ends, even if the
// binary is killed and runs no cleanup.
func endWithTestBinary() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
