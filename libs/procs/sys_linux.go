package procs

import "syscall"

// sysProcAttr gives the process a group of its own, so that a terminal's Ctrl-C reaches us alone, and has the kernel
// kill it when we end without having stopped it.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
