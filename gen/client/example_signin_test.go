package client_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"quiva.ai/mfa/gen/client"
)

// gateway is a sign-in of two pages: the first asks for the password, the second for a code.
type gateway struct{ mfa *client.ClientWithResponses }

func newGateway(url, serviceKey string) (gateway, error) {
	mfa, err := client.NewClientWithResponses(url,
		client.WithHTTPClient(&http.Client{Timeout: 5 * time.Second}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("X-Service-Key", serviceKey)
			return nil
		}))
	return gateway{mfa}, err
}

// page is what the person sees next.
type page struct {
	tokens   string // the person is signed in
	asks     bool   // for a code; without tokens and this, sign-in begins again
	sentence string
}

const unavailable = "Sign-in is not available now. Please try again later."

// enterPassword handles the first page. Without a good response of mfa-status it is unknown
// whether the account has a factor, and nobody gets in.
func (g gateway) enterPassword(ctx context.Context, account, password string) page {
	if !checkPassword(account, password) {
		return page{sentence: "The account or the password is wrong."}
	}
	status, err := g.mfa.GetMfaStatusWithResponse(ctx, client.GetMfaStatusJSONRequestBody{Account: account})
	switch {
	case err != nil:
		return fault(err.Error())
	case status.JSON200 == nil:
		return fault(status.Status())
	case status.JSON200.Data.TOTPEnabled:
		return page{asks: true, sentence: "Enter the code of your app, or a recovery code."}
	}
	return page{tokens: issueTokens(account)}
}

// enterCode handles the second page. The account is that of a session which enterPassword began:
// it comes from no form. Only a 200 issues tokens.
func (g gateway) enterCode(ctx context.Context, account, code string) page {
	verified, err := g.mfa.VerifyMfaCodeWithResponse(ctx, client.VerifyMfaCodeJSONRequestBody{Account: account, Code: code})
	switch {
	case err != nil:
		return fault(err.Error())
	case verified.JSON200 != nil:
		done := page{tokens: issueTokens(account)}
		if data := verified.JSON200.Data; data.Method == client.RecoveryCode {
			done.sentence = fmt.Sprintf("You have %d recovery codes left.", data.RecoveryCodesLeft)
		}
		return done
	case verified.JSON400 != nil && verified.JSON400.Reason == "not_enrolled":
		return page{sentence: "Please sign in again."} // The factor was removed a moment ago.
	case verified.JSON400 != nil && verified.JSON400.Reason != "": // wrong_code, replayed, malformed, or a later one
		return page{asks: true, sentence: verified.JSON400.Error}
	case verified.JSON429 != nil:
		wait := time.Duration(verified.Headers429.RetryAfter) * time.Second
		return page{asks: true, sentence: fmt.Sprintf("%s The next code may come in %v.", verified.JSON429.Error, wait)}
	case verified.JSON503 != nil: // The code may be used up. Then the next attempt is refused.
		return page{asks: true, sentence: verified.JSON503.Error}
	}
	return fault(verified.Status()) // 401: the service key has expired or was revoked
}

// fault tells the operators. The person learns nothing of it.
func fault(text string) page {
	fmt.Println("log: mfa:", text)
	return page{sentence: unavailable}
}

// These two are the gateway's own.
func checkPassword(_, password string) bool { return password == "correct horse" }
func issueTokens(account string) string     { return "tokens of " + account + "." }

func show(step string, p page) { fmt.Println(step+":", strings.TrimSpace(p.tokens+" "+p.sentence)) }

// This is the whole sign-in of the gateway, with what to do on each status.
func Example_signIn() {
	service := startService() // stands in for the real one
	defer service.Close()
	app, recoveryCodes := service.enrol("ada")
	g, err := newGateway(service.URL, service.key)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()

	show("wrong password", g.enterPassword(ctx, "ada", "12345"))
	show("bob has no factor", g.enterPassword(ctx, "bob", "correct horse"))
	show("ada has one", g.enterPassword(ctx, "ada", "correct horse"))
	show("five digits", g.enterCode(ctx, "ada", "12345"))
	show("wrong code", g.enterCode(ctx, "ada", app.wrongCode()))
	show("right code", g.enterCode(ctx, "ada", app.code()))
	show("the same code", g.enterCode(ctx, "ada", app.code()))
	show("recovery code", g.enterCode(ctx, "ada", recoveryCodes[0]))
	for range 5 {
		g.enterCode(ctx, "ada", app.wrongCode())
	}
	service.clock.Advance(30 * time.Second)
	show("right code after five wrong ones", g.enterCode(ctx, "ada", app.code()))
	service.clock.Advance(30 * time.Second)
	show("right code after the wait", g.enterCode(ctx, "ada", app.code()))
	show("factor gone", g.enterCode(ctx, "bob", "123456"))
	service.failing.Store(true)
	show("status while Redis is down", g.enterPassword(ctx, "ada", "correct horse"))
	show("code while Redis is down", g.enterCode(ctx, "ada", app.code()))
	service.failing.Store(false)
	service.revokeKey()
	show("service key revoked", g.enterCode(ctx, "ada", app.code()))

	// Output:
	// wrong password: The account or the password is wrong.
	// bob has no factor: tokens of bob.
	// ada has one: Enter the code of your app, or a recovery code.
	// five digits: This is not a valid code; please check it and try again.
	// wrong code: The code is wrong; please enter the code that your app shows now.
	// right code: tokens of ada.
	// the same code: This code was used already; please wait for the next one.
	// recovery code: tokens of ada. You have 9 recovery codes left.
	// right code after five wrong ones: Too many wrong codes; please wait, or use a recovery code. The next code may come in 30s.
	// right code after the wait: tokens of ada.
	// factor gone: Please sign in again.
	// log: mfa: 503 Service Unavailable
	// status while Redis is down: Sign-in is not available now. Please try again later.
	// code while Redis is down: The service is temporarily unavailable; please try again.
	// log: mfa: 401 Unauthorized
	// service key revoked: Sign-in is not available now. Please try again later.
}
