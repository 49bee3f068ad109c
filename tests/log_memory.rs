//! What a log costs in memory once nobody writes to it: counted by the allocator, which this program has to itself.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use kennel::store::files::{FileLogs, Limits};
use kennel::store::{Durability, Logs};
use tempfile::TempDir;

/// Bytes a log, the name's 88 and the index's entry included.
const MOST: usize = 450;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// As a sandbox's stream is named.
fn name(i: usize) -> String {
    format!("/aws/lambda/a-function-{:04}|2026/11/24/[$LATEST]{i:032x}", i % 1000)
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn fill(logs: &FileLogs, range: std::ops::Range<usize>, durability: Durability) {
    for i in range {
        for body in ["START RequestId: x Version: $LATEST\n", "END RequestId: x\n"] {
            let records = vec![(7, Bytes::from_static(body.as_bytes()))];
            logs.append(&name(i), records, durability).await.unwrap();
        }
    }
}

/// Bytes a log that is kept. The last ones have their files open, so that as many come before as are measured after.
async fn measure(count: usize, limits: Limits) -> usize {
    let root = TempDir::new().unwrap();
    let logs = FileLogs::open(root.path(), limits).unwrap();
    fill(&logs, 0..500, Durability::Written).await;
    let (before, resident_before, begun) =
        (HELD.load(Ordering::Relaxed), resident(), Instant::now());
    fill(&logs, 500..500 + count, Durability::Written).await;
    let took = begun.elapsed();
    let held = HELD.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "{count} logs, {took:?}: {} bytes a log, {} KiB resident more",
        held / count,
        resident().saturating_sub(resident_before) >> 10
    );
    // Nor does being listed, and so looked at, cost anything that stays.
    let mut after = None;
    loop {
        let page = logs.list("", after.as_deref(), 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.log.clone());
    }
    drop(after);
    let listed = HELD.load(Ordering::Relaxed).saturating_sub(before);
    println!("listed: {} bytes a log", listed / count);
    drop(logs);
    let before = HELD.load(Ordering::Relaxed);
    let logs = FileLogs::open(root.path(), limits).unwrap();
    let found = HELD.load(Ordering::Relaxed).saturating_sub(before);
    println!("found again: {} bytes a log", found / (count + 500));
    drop(logs);
    held.max(listed) / count
}

/// One after the other: the allocator counts for all.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_log_costs_little_memory() {
    let _alone = ALONE.lock().await;
    let bytes = measure(2000, Limits::default()).await;
    assert!(bytes <= MOST, "{bytes} bytes a log");
}

#[tokio::test]
#[ignore = "tens of thousands of files"]
async fn fifty_thousand_logs() {
    let _alone = ALONE.lock().await;
    let bytes = measure(50_000, Limits { logs: 100_000, ..Limits::default() }).await;
    assert!(bytes <= MOST, "{bytes} bytes a log");
}

/// However many there were.
#[tokio::test]
async fn the_number_of_logs_bounds_their_memory() {
    let _alone = ALONE.lock().await;
    let root = TempDir::new().unwrap();
    let logs = FileLogs::open(root.path(), Limits { logs: 500, ..Limits::default() }).unwrap();
    let mut held = Vec::new();
    for round in 0..6 {
        fill(&logs, round * 1000..(round + 1) * 1000, Durability::Written).await;
        // Until what is too much is gone.
        while std::fs::read_dir(root.path()).unwrap().count() > 500 {
            fill(&logs, round * 1000..round * 1000 + 1, Durability::Written).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        held.push(HELD.load(Ordering::Relaxed));
    }
    println!("after every thousand: {held:?}");
    let climbed = held[5].saturating_sub(held[1]);
    assert!(climbed < 500 * MOST / 2, "{held:?}");
}
