//! The simulated disk: loses unsynced writes, tears them, corrupts, fills up, fails a sync.
