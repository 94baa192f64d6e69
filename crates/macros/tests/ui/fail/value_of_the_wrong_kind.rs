use service_mesh::with_retry;

#[with_retry(initial_delay_seconds = "100ms")]
fn fetch() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
