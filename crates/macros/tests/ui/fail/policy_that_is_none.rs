use service_mesh::with_retry;

#[with_retry(policy = 3)]
fn fetch() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
