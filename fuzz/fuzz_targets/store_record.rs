#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pontoon_kv::fuzz::store_record(data));
