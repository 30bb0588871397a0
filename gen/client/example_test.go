package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"quiva.ai/mfa/gen/client"
)

func Example() {
	gateway := httptest.NewServer(http.HandlerFunc(respond)) // stands in for the real gateway
	defer gateway.Close()

	api, err := client.NewClientWithResponses(gateway.URL,
		client.WithHTTPClient(&http.Client{Timeout: 5 * time.Second}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("X-Api-Key", "mfa_example")
			return nil
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	response, err := api.GenerateTOTPKeyWithResponse(context.Background())
	switch {
	case err != nil:
		fmt.Println(err)
	case response.JSON200 != nil:
		fmt.Println("as a QR code:", response.JSON200.Data.OTPAuthURL)
		fmt.Println("to type:", response.JSON200.Data.Secret)
		fmt.Println("seconds left:", response.Headers200.TOTPKeyExpiresIn)
	case response.JSON503 != nil:
		fmt.Println("try again in seconds:", response.Headers503.RetryAfter)
	default:
		fmt.Println("refused:", response.Status())
	}
	// Output:
	// as a QR code: otpauth://totp/quiva.ai:user@example.com?secret=JBSWY3DPEHPK3PXP&issuer=quiva.ai
	// to type: JBSWY3DPEHPK3PXP
	// seconds left: 600
}

// respond sends the example of the document to a caller with the API key.
func respond(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodPost || r.URL.Path != "/accounts/generate-totp-key" || r.Header.Get("X-Api-Key") != "mfa_example" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"Please sign in."}`)
		return
	}
	w.Header().Set("Totp-Key-Expires-In", "600")
	_, _ = io.WriteString(w, `{"data":{"otpauth_url":"otpauth://totp/quiva.ai:user@example.com?secret=JBSWY3DPEHPK3PXP&issuer=quiva.ai","secret":"JBSWY3DPEHPK3PXP"}}`)
}
