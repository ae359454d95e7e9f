#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pontoon_storage::log::fuzz::log_record(data));
