package procs

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperMode in the environment makes the test binary one of the processes that the tests run.
const helperMode = "PROCS_TEST_MODE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperMode); mode != "" {
		os.Exit(help(mode, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// help is what the processes of the tests do:
//
//	serve ADDR          answers 200 there until SIGTERM
//	unready ADDR        answers 503 there
//	deaf ADDR           answers 200 and heeds no SIGTERM
//	parent ADDR CHILD   serves, and has a child that is deaf and serves at CHILD
//	group ADDR CHILD    serves, and has a group with a process that serves at CHILD
//	fail                says why and ends with status 3
func help(mode string, args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("mode", mode)
	status := http.StatusOK
	switch mode {
	case "fail":
		fmt.Fprintln(os.Stderr, "the disk is on fire")
		return 3
	case "unready":
		status = http.StatusServiceUnavailable
	case "parent":
		child := exec.Command(os.Args[0], args[1])
		child.Env = append(os.Environ(), helperMode+"=deaf")
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
	case "group":
		spec := Spec{Name: "child", Binary: os.Args[0], Args: args[1:], Env: []string{helperMode + "=serve"}, Ready: "http://" + args[1]}
		if err := New(Config{LogDir: args[2]}).Start(context.Background(), spec); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	server := &http.Server{Addr: args[0], ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, "still loading")
	})}
	go func() { fmt.Println(server.ListenAndServe()) }()
	for range stop {
		if mode != "deaf" {
			fmt.Println("bye")
			return 0
		}
		fmt.Println("what was that")
	}
	return 0
}
