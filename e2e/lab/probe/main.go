package probe

// Main runs a prober.
func Main(args []string) int { return 2 }
