"""Running a batch: claim, lease, heartbeat, spawn the engine, collect evidence, publish, seal, fulfil."""
