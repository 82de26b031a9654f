// Command ads holds the parts of the stream benchmark that are written in Go: the clients, and two
// servers to compare ours with. Each is controlled by JSON lines on its standard input, one reply
// a line on its standard output, and ends when the input does.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// An object is one JSON object: a command or a reply.
type object = map[string]any

// A program answers commands; what it was started with comes in the "start" command.
type program func(name string, raw json.RawMessage) (object, error)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: %s client|peer|floor", os.Args[0]))
	}
	var run program
	switch os.Args[1] {
	case "client":
		run = newClient().handle
	case "peer":
		run = (&peer{}).handle
	case "floor":
		run = newFloor().handle
	default:
		fail(fmt.Errorf("unknown program %q", os.Args[1]))
	}
	serve(run)
}

func serve(run program) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	replies := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var command struct {
			Cmd string `json:"cmd"`
		}
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			fail(err)
		}
		reply, err := answer(run, command.Cmd, lines.Bytes())
		if err != nil {
			reply = object{"error": fmt.Sprintf("%s: %v", command.Cmd, err)}
		}
		if err := replies.Encode(reply); err != nil {
			fail(err)
		}
	}
}

func answer(run program, name string, raw json.RawMessage) (object, error) {
	if name == "usage" {
		return usage()
	}
	return run(name, raw)
}

// usage reports the CPU time of this process in seconds; its memory is seen from outside.
func usage() (object, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return nil, err
	}
	return object{"cpu": float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9}, nil
}

// now is CLOCK_MONOTONIC in nanoseconds: the one clock that all processes of a machine share.
func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		fail(err)
	}
	return at.Nano()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
