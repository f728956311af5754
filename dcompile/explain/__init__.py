"""Why a step takes as long as it does: what was measured, part by part, beside what the machine allows."""
