//go:build unix && !linux

package procs

import "syscall"

// sysProcAttr gives the process a group of its own, so that a terminal's Ctrl-C reaches us alone.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
