#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ptth::internals::fuzzing::run("request", bytes));
