package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/gen"
)

type smokeStep struct {
	name string
	run  func(context.Context) error
}

func (s *smokeTest) steps() []smokeStep {
	steps := []smokeStep{
		{"account has no factor", s.checkAccount},
		{"generate a key", s.generate},
		{"generate returns the same key", s.generateAgain},
		{"a wrong code is refused", s.sendWrongCode},
		{"confirm", s.confirm},
		{"info shows the factor", func(ctx context.Context) error { return s.wantInfo(ctx, true) }},
	}
	if s.service != nil {
		steps = append(steps,
			smokeStep{"sign-in must ask for a code", s.checkStatus},
			smokeStep{"verify a recovery code, once", func(ctx context.Context) error { return s.verifyOnce(ctx, s.codes[0], gen.RecoveryCode) }},
			smokeStep{"verify a code, once", func(ctx context.Context) error { return s.verifyOnce(ctx, s.codeAt(1), gen.TOTP) }})
	}
	return append(steps,
		smokeStep{"remove", s.remove},
		smokeStep{"info shows no factor", func(ctx context.Context) error { return s.wantInfo(ctx, false) }})
}

var errHasFactor = errors.New("the account has a factor, which this test would remove: use a test account")

// checkAccount also finds out whether the credentials are good enough for the removal: that and
// viewing recovery codes have the same rule. A factor that is switched off has recovery codes.
func (s *smokeTest) checkAccount(ctx context.Context) error {
	if err := s.wantInfo(ctx, false); err != nil {
		return err
	}
	codes, err := callAPI[[]string](ctx, s.api, http.MethodGet, "/accounts/recovery-codes", s.person, nil)
	if refused, ok := errors.AsType[*refusedCall](err); ok && refused.body.Reason == "step_up" {
		return fmt.Errorf("the service demands a sign-in for the removal: set TOKEN: %w", err)
	}
	if err == nil && len(codes) > 0 {
		return errHasFactor
	}
	return err
}

func (s *smokeTest) wantInfo(ctx context.Context, enabled bool) error {
	info, err := callAPI[gen.MfaInfo](ctx, s.api, http.MethodGet, "/accounts/user-mfa-info", s.person, nil)
	switch {
	case err != nil || info.TOTPEnabled == enabled:
		return err
	case s.key.Secret == "":
		return errHasFactor
	}
	return fmt.Errorf("totp_enabled is %t", info.TOTPEnabled)
}

func (s *smokeTest) generate(ctx context.Context) (err error) {
	s.key, err = callAPI[gen.TOTPKey](ctx, s.api, http.MethodPost, "/accounts/generate-totp-key", s.person, nil)
	if err == nil && (len(s.key.Secret) != 32 || !strings.Contains(s.key.OTPAuthURL, "secret="+s.key.Secret+"&")) {
		return errNotOurs
	}
	return err
}

func (s *smokeTest) generateAgain(ctx context.Context) error {
	before := s.key
	if err := s.generate(ctx); err != nil {
		return err
	}
	if s.key != before {
		return errors.New("there is another key: do all instances have one Redis and the same MFA_SEAL_KEYS?")
	}
	return nil
}

// codeAt returns a code of the key: 0 for the confirmation, 1 for the next code. Both are within
// the skew of a service whose clock differs by up to 15 seconds.
func (s *smokeTest) codeAt(next int) string {
	code, _ := totp.GenerateCode(s.key.Secret, s.now().Add(time.Duration(2*next-1)*15*time.Second)) // generate has checked the secret
	return code
}

func (s *smokeTest) sendConfirmation(ctx context.Context, code string) (gen.ConfirmedTOTP, error) {
	s.enrols = true
	return callAPI[gen.ConfirmedTOTP](ctx, s.api, http.MethodPost, "/accounts/confirm-totp-registration", s.person,
		gen.ConfirmTOTPRegistrationJSONRequestBody{Code: code, Secret: s.key.Secret})
}

func (s *smokeTest) sendWrongCode(ctx context.Context) error {
	wrong := []byte(s.codeAt(0))
	wrong[0] = '0' + (wrong[0]-'0'+1)%10
	_, err := s.sendConfirmation(ctx, string(wrong))
	return wantRefusal(err, "wrong_code", "clock_off") // one in 25 000 is right at another time
}

// wantRefusal returns nil if err is a refusal with one of the reasons.
func wantRefusal(err error, reasons ...string) error {
	if err == nil {
		return errors.New("the service accepts it")
	}
	if refused, ok := errors.AsType[*refusedCall](err); ok && slices.Contains(reasons, refused.body.Reason) {
		return nil
	}
	return err
}

func (s *smokeTest) confirm(ctx context.Context) error {
	confirmed, err := s.sendConfirmation(ctx, s.codeAt(0))
	s.codes = confirmed.RecoveryCodes
	if err == nil && len(s.codes) != 10 {
		return fmt.Errorf("there are %d recovery codes; want 10", len(s.codes))
	}
	return err
}

func (s *smokeTest) checkStatus(ctx context.Context) error {
	status, err := callAPI[gen.MfaStatus](ctx, s.api, http.MethodPost, "/internal/mfa-status", s.service, gen.GetMfaStatusJSONRequestBody{Account: s.account})
	if err == nil && (!status.TOTPEnabled || status.RecoveryCodesLeft != len(s.codes)) {
		return errors.New("this is not the state of the account: is --account the account of the credentials?")
	}
	return err
}

// verifyOnce demands that code is accepted as method, and then refused.
func (s *smokeTest) verifyOnce(ctx context.Context, code string, method gen.VerifiedCodeMethod) error {
	body := gen.VerifyMfaCodeJSONRequestBody{Account: s.account, Code: code}
	verified, err := callAPI[gen.VerifiedCode](ctx, s.api, http.MethodPost, "/internal/verify-mfa-code", s.service, body)
	if err != nil {
		return err
	}
	if verified.Method != method || verified.RecoveryCodesLeft != 9 {
		return fmt.Errorf("it counts as %q, with %d recovery codes left", verified.Method, verified.RecoveryCodesLeft)
	}
	_, err = callAPI[gen.VerifiedCode](ctx, s.api, http.MethodPost, "/internal/verify-mfa-code", s.service, body)
	if err = wantRefusal(err, "wrong_code", "replayed"); err != nil {
		return fmt.Errorf("sent again: %w", err)
	}
	return nil
}

func (s *smokeTest) remove(ctx context.Context) error {
	_, err := callAPI[struct{}](ctx, s.api, http.MethodDelete, "/accounts/totp", s.person, nil)
	if err == nil {
		s.enrols = false
	}
	return err
}
