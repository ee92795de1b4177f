//! Proposals are in range, safe for what was seen, and say why.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn seen(load: u64, serve: u64, limit: u32) -> Usage {
    Usage {
        memory_limit: Mebibytes(limit),
        load_peak: Some(load * MIB),
        serve_peak: Some(serve * MIB),
        working_peak: Some(load.max(serve) * MIB / 2),
        ..Usage::default()
    }
}

fn of(usage: Usage, cpu: u32, memory: u32) -> Sizing {
    let resources = Resources {
        cpu: Millicpu(cpu),
        memory: Mebibytes(memory),
    };
    Sizing::of(usage, resources, None)
}

proptest! {
    #[test]
    fn the_next_memory_is_more_in_whole_steps_within_what_there_is(
        limit in 150_u32..=16384,
        machine in proptest::option::of(150_u32..60_000),
    ) {
        let most = machine.unwrap_or(16384).min(16384);
        match more_memory(Mebibytes(limit), machine.map(Mebibytes)) {
            Some(next) => {
                prop_assert!(next.0 > limit && next.0 <= most);
                prop_assert!(next.0 == most || next.0.is_multiple_of(64));
                prop_assert!(next.0 <= limit * 3 / 2 + 128);
                prop_assert!(next.0 == most || next.0 * 2 >= limit * 3, "grows by half at least");
            }
            None => prop_assert!(limit >= most),
        }
    }

    #[test]
    fn proposed_memory_holds_the_peak_and_is_in_range(
        load in 1_u64..20_000,
        serve in 0_u64..20_000,
        now in 150_u32..=16384,
        rows in 0_u64..1000,
    ) {
        let usage = Usage { most_rows: rows, ..seen(load, serve, now) };
        let sizing = of(usage, 100, now);
        let setting = sizing.memory.setting.unwrap().0;
        prop_assert!(Resources::MEMORY_RANGE.contains(&setting));
        let peak = u32::try_from(load.max(serve)).unwrap();
        if f64::from(peak) < f64::from(now) * FULL && setting < 16384 {
            prop_assert!(setting >= peak + LEAST_SPARE && f64::from(setting) >= f64::from(peak) * 1.25);
        }
        // What is proposed fits, once it is set.
        let again = of(usage, 100, setting);
        prop_assert!(again.memory.fit != Fit::TooLarge);
        if setting > peak {
            prop_assert!(again.memory.fit == Fit::Fits, "{again:?}");
        }
    }

    #[test]
    fn proposed_cpu_covers_the_busiest_minute_and_is_in_range(
        millicpu in 0.0_f64..10_000.0,
        now in 10_u32..=4000,
        requests in 20_u64..100_000,
    ) {
        let busiest = Some(Busiest { millicpu, requests_per_second: 3.0 });
        let usage = Usage { requests, rows: requests, cpu_seconds: 1.0, busiest, ..Usage::default() };
        let cpu = of(usage, now, 256).cpu;
        let setting = cpu.setting.unwrap().0;
        prop_assert!(Resources::CPU_RANGE.contains(&setting));
        prop_assert!(setting == 4000 || f64::from(setting) >= millicpu);
        let again = of(usage, setting, 256).cpu;
        prop_assert!(setting == 4000 || again.fit == Fit::Fits);
    }
}

#[test]
fn the_reasons_say_what_was_seen() {
    let busy = Usage {
        most_rows: 500,
        requests: 1000,
        calls: 400,
        rows: 3000,
        cpu_seconds: 12.3,
        busiest: Some(Busiest {
            millicpu: 101.2,
            requests_per_second: 8.23,
        }),
        ..seen(180, 212, 256)
    };
    let text = |s: &Sizing| {
        format!(
            "{:?}\nmemory {:?}: {}\ncpu {:?}: {}",
            s.advice(),
            s.memory.fit,
            s.memory.reason,
            s.cpu.fit,
            s.cpu.reason
        )
    };
    let full = Usage {
        working_peak: Some(300 * MIB),
        ..seen(256, 256, 256)
    };
    let ended = Usage {
        oom_limit: Some(Mebibytes(256)),
        ..seen(180, 256, 256)
    };
    let cases = [
        of(busy, 100, 256),
        of(busy, 1000, 2048),
        of(seen(240, 200, 256), 100, 256),
        of(full, 100, 256),
        of(ended, 100, 256),
        of(ended, 100, 384),
        of(Usage::default(), 100, 256),
    ];
    let texts: Vec<String> = cases.iter().map(text).collect();
    insta::assert_snapshot!(texts.join("\n\n"), @r#"
    Some("cpu=130")
    memory Fits: peaked at 212 of 256 MiB while serving up to 500 rows at a time; 288 leaves 76 MiB to spare
    cpu TooSmall: more than is reserved: used 101 of 100 millicpu in the busiest minute, at 8.2 requests/s; a request takes 12.3 ms of CPU on average; 130 leaves a quarter to spare

    Some("memory=288 cpu=130")
    memory TooLarge: far more than it uses: peaked at 212 of 2048 MiB while serving up to 500 rows at a time; 288 leaves 76 MiB to spare
    cpu TooLarge: far more than it uses: used 101 of 1000 millicpu in the busiest minute, at 8.2 requests/s; a request takes 12.3 ms of CPU on average; 130 leaves a quarter to spare

    Some("memory=320")
    memory TooSmall: too near to its limit: peaked at 240 of 256 MiB while loading; 320 leaves 80 MiB to spare
    cpu Unknown: known after 20 requests; there were 0

    Some("memory=320")
    memory TooSmall: used all of 256 MiB, file cache included, without running out; 256 MiB of it were its own when it was looked at
    cpu Unknown: known after 20 requests; there were 0

    Some("memory=384")
    memory TooSmall: ran out of memory at 256 MiB; half as much again is 384, a guess
    cpu Unknown: known after 20 requests; there were 0

    None
    memory Fits: used all of 256 MiB, file cache included, without running out; 128 MiB of it were its own when it was looked at
    cpu Unknown: known after 20 requests; there were 0

    None
    memory Unknown: not measured yet
    cpu Unknown: known after 20 requests; there were 0
    "#);
}

#[test]
fn little_traffic_says_nothing_of_cpu() {
    let usage = Usage {
        requests: 19,
        rows: 19,
        cpu_seconds: 1.0,
        ..Usage::default()
    };
    let sizing = of(usage, 100, 256);
    assert_eq!(sizing.cpu_ms_per_request, None);
    assert_eq!(sizing.cpu.setting, None);
    assert_eq!(sizing.cpu.reason, "known after 20 requests; there were 19");
}
