//! `task run` with the real OpenCode, the installed pack and a real repository; the model behind it plays what each agent is to do.
//!
//! Needs `DX_TEST_AGENTS_DIR`, as the other tests of real agents do. One OpenCode runs at a time, so the cases are few tests.

mod boundary;
mod cases;
mod kills;
mod units;
mod world;
