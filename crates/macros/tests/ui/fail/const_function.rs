use service_mesh::with_retry;

#[with_retry]
const fn fetch() -> Result<(), u32> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
