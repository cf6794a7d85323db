//! Sagas that nobody orchestrates: contracts, verdicts and the lens over traffic.
