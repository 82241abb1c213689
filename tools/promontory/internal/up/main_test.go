package up

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes the test binary each of the programs of the stack, by the name under which it is called. The real
// ones run in the end-to-end tests; here the supervision is tested.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	switch {
	case name == "prometheus" || name == "sidecar" || name == "store-gateway" || name == "querier" || name == "ruler" || name == "alertmanager" || name == "receiver":
		os.Exit(pretend(name, os.Args[1:]))
	case len(os.Args) > 1 && os.Args[1] == "demo":
		os.Exit(pretend("demo", os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// breakFile in the environment names a file: "<name> dies at once" and "<name> answers nothing" are what it can say.
const breakFile = "UP_TEST_BREAK"

func pretend(name string, args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println(name, "runs with", strings.Join(args, " "))
	broken, _ := os.ReadFile(os.Getenv(breakFile))
	if string(broken) == name+" dies at once" {
		fmt.Println("no space left on device")
		return 2
	}
	var addr string
	for _, arg := range args {
		for _, flag := range []string{"--http-address=", "--web.listen-address="} {
			if value, ok := strings.CutPrefix(arg, flag); ok {
				addr = value
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	var rows []string
	var l layout
	if strings.Contains(strings.Join(args, " "), ingesterLabel) {
		l.SetUp = SetUpReceive
	}
	for _, job := range jobs(stack(l)) {
		rows = append(rows, fmt.Sprintf(`{"metric":{"job":%q},"value":[1,"1"]}`, job["job"]))
	}
	vector, matrix := `"resultType":"vector","result":[`+strings.Join(rows, ",")+`]`,
		`"resultType":"matrix","result":[{"metric":{"job":"x"},"values":[`+strings.TrimSuffix(strings.Repeat(`[1,"1"],`, 300), ",")+`]}]`
	if string(broken) == name+" answers nothing" {
		vector = `"resultType":"vector","result":[]`
	}
	answer := func(data string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"status":"success","data":{%s}}`, data) }
	}
	mux.HandleFunc("/api/v1/query", answer(vector))
	mux.HandleFunc("/api/v1/query_range", answer(matrix))
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { fmt.Println(server.ListenAndServe()) }()
	<-stop
	return 0
}
