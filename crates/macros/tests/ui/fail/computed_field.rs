use service_mesh::with_retry;

#[with_retry(max_retries = 1 + 2)]
fn fetch() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
