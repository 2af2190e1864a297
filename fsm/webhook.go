package fsm

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// mostWebhooks bounds Settings.Webhooks.
const mostWebhooks = 8

// WebhookURLs are the URLs of Webhooks.
func (s Settings) WebhookURLs() []string {
	if s.Webhooks == "" {
		return nil
	}
	return strings.Split(s.Webhooks, ",")
}

func webhooksProblem(urls []string) string {
	if len(urls) > mostWebhooks {
		return fmt.Sprintf("there can be %d, not %d", mostWebhooks, len(urls))
	}
	for i, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(s) > 500 || !isClean(s, 500) {
			return fmt.Sprintf("%q is no http or https URL", s)
		}
		if slices.Contains(urls[:i], s) {
			return fmt.Sprintf("%q is there twice", s)
		}
	}
	return ""
}

// webhookHost is what may be shown of a URL: its path may be a secret.
func webhookHost(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "?"
	}
	return u.Scheme + "://" + u.Host
}

func someHosts(urls []string) string {
	if len(urls) == 0 {
		return "none"
	}
	hosts := make([]string, len(urls))
	for i, s := range urls {
		hosts[i] = webhookHost(s)
	}
	return fmt.Sprintf("%d (%s)", len(urls), strings.Join(hosts, ", "))
}
