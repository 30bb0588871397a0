package api

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/api/apitest"
)

// coverage has the responses of the real operations, and the 500 of a stub.
var coverage apitest.Coverage

// TestMain demands that the tests together produce every status and header of the document,
// unless a flag left tests out.
func TestMain(m *testing.M) {
	verify := goleak.Cleanup(func(status int) {
		if status == 0 && allTestsRan() {
			status = verifyCoverage()
		}
		os.Exit(status)
	})
	// net/http keeps a connection for 500 ms after a response to an unread body.
	lingering := goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")
	goleak.VerifyTestMain(m, verify, lingering)
}

func allTestsRan() bool {
	return !slices.ContainsFunc([]string{"test.run", "test.skip", "test.list", "test.fuzz"}, func(name string) bool {
		return flag.Lookup(name).Value.String() != ""
	})
}

func verifyCoverage() (status int) {
	document, err := gen.GetSpec()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, missing := range coverage.Missing(document) {
		fmt.Fprintln(os.Stderr, "Contract coverage:", missing)
		status = 1
	}
	return status
}
