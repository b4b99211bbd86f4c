// Command pgrep is what the busybox of some distributions lacks and an Alpine image has: it prints the ids of the
// processes whose name, or with -f command line, matches a regular expression.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

func ownedBy(directory string, uid string) bool {
	info, err := os.Stat(directory)
	if err != nil {
		return false
	}
	return uid == "" || strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Uid), 10) == uid
}

func subject(directory string, full bool) string {
	if full {
		line, _ := os.ReadFile(filepath.Join(directory, "cmdline"))
		return strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	name, _ := os.ReadFile(filepath.Join(directory, "comm"))
	return strings.TrimSpace(string(name))
}

func main() {
	full := flag.Bool("f", false, "match the whole command line")
	exact := flag.Bool("x", false, "match the whole name, not a part of it")
	owner := flag.String("u", "", "only the processes of this user")
	flag.Parse()
	if found, err := user.Lookup(*owner); err == nil {
		*owner = found.Uid
	}
	expression := flag.Arg(0)
	if *exact {
		expression = "^(?:" + expression + ")$"
	}
	pattern, err := regexp.Compile(expression)
	if err != nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: pgrep [-f] [-x] [-u user] pattern")
		os.Exit(2)
	}
	status := 1
	directories, _ := filepath.Glob("/proc/[0-9]*")
	for _, directory := range directories {
		pid := filepath.Base(directory)
		text := subject(directory, *full)
		if pid == strconv.Itoa(os.Getpid()) || text == "" || !ownedBy(directory, *owner) || !pattern.MatchString(text) {
			continue
		}
		fmt.Println(pid)
		status = 0
	}
	os.Exit(status)
}
