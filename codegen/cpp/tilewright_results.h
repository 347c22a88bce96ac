// Memory of large results: kept when a call gives it away, and given again once nobody else holds it.
//
// A kept result is a tensor of ours over the storage that the caller has. The counts in that storage tell whether any
// other tensor is left on it: views, saved tensors and arrays all hold one. So nothing that somebody still sees is
// overwritten, and results are torch's own memory like any others. All programs of the process share what is kept.
// Part of tilewright_host.h.

namespace tw {

// How many results are kept at most, and for how many large results one is kept that fits none of them.
constexpr int64_t kept_results = 128;

struct KeptResult {
  AtenTensorHandle tensor;
  const void* data;
  int64_t dtype, bytes;
  int64_t used;  // the clock when it was last given to a call
};

// Made by the loader, as zeros but for `size`, `least` and `limit`, and never freed.
struct Results {
  int64_t size;   // of this in bytes
  int64_t least;  // bytes of a result from which on it is kept
  int64_t limit;  // of `bytes`; 0: nothing is kept
  int64_t locked;
  int64_t clock;  // large results so far
  int64_t bytes, count;
  KeptResult kept[kept_results];
};

// Held while the kept results are looked at. Nobody waits for it: who does not get it does without them, as a forked
// child does for ever whose parent held it in another thread.
class ResultsLock {
 public:
  const bool held = api.results->limit && !__atomic_exchange_n(&api.results->locked, 1, __ATOMIC_ACQUIRE);
  ResultsLock() = default;
  ~ResultsLock() {
    if (held) __atomic_store_n(&api.results->locked, 0, __ATOMIC_RELEASE);
  }
  ResultsLock(const ResultsLock&) = delete;
};

// Whether nobody but us holds a kept result, and its storage is what it was: a caller may have resized it, or moved it
// into memory that other processes share.
static bool is_idle(const KeptResult& kept) {
  const char* tensor = *reinterpret_cast<const char* const*>(kept.tensor);
  const char* storage = *reinterpret_cast<const char* const*>(tensor + api.storage_offset);
  const auto counts = reinterpret_cast<const int64_t*>(storage + api.counts_offset);
  if (__atomic_load_n(counts, __ATOMIC_ACQUIRE) != api.sole_owner) return false;
  int64_t bytes;
  void* data;
  return !api.aoti_torch_get_storage_size(kept.tensor, &bytes) && bytes == kept.bytes &&
      !api.aoti_torch_get_data_ptr(kept.tensor, &data) && data == kept.data;
}

// Let go of what was not used for the last `age` large results. The lock is held.
static void forget_results(int64_t age) {
  Results& all = *api.results;
  for (int64_t i = all.count; i-- > 0;) {
    if (all.clock - all.kept[i].used < age) continue;
    const AtenTensorHandle tensor = all.kept[i].tensor;
    all.bytes -= all.kept[i].bytes;
    all.kept[i] = all.kept[--all.count];
    api.aoti_torch_delete_tensor_object(tensor);
  }
}

// A tensor over the kept memory of the result that was used last; null where no kept result of this size is idle.
static AtenTensorHandle reuse_result(Dims sizes, Dims strides, Dtype dtype, int64_t bytes) {
  const ResultsLock lock;
  if (!lock.held) return nullptr;
  Results& all = *api.results;
  ++all.clock;
  forget_results(kept_results);
  KeptResult* found = nullptr;
  for (KeptResult* kept = all.kept; kept < all.kept + all.count; ++kept) {
    const bool fits = kept->dtype == dtype && kept->bytes == bytes && (!found || kept->used > found->used);
    if (fits && is_idle(*kept)) found = kept;
  }
  AtenTensorHandle made;
  if (!found || api.aoti_torch__reinterpret_tensor(
      found->tensor, sizes.size(), sizes.begin(), strides.begin(), 0, &made)) return nullptr;
  found->used = all.clock;
  return made;
}

// Keep a fresh result, where there is room.
static void keep_result(AtenTensorHandle result, Dims sizes, Dims strides, Dtype dtype, int64_t bytes) {
  const ResultsLock lock;
  Results& all = *api.results;
  if (!lock.held || all.count == kept_results || all.bytes + bytes > all.limit) return;
  KeptResult kept{nullptr, nullptr, dtype, bytes, all.clock};
  void* data;
  if (api.aoti_torch_get_data_ptr(result, &data) || api.aoti_torch__reinterpret_tensor(
      result, sizes.size(), sizes.begin(), strides.begin(), 0, &kept.tensor)) return;
  kept.data = data;
  all.kept[all.count++] = kept;
  all.bytes += bytes;
}

static int64_t element_bytes(Dtype dtype) {
  switch (dtype) {
    case c128: return 16;
    case i64: case f64: case c64: return 8;
    case i32: case f32: return 4;
    case i16: case f16: case bf16: return 2;
    default: return 1;
  }
}

// A tensor for a result, whose elements are not set.
static AtenTensorHandle new_result(Dims sizes, Dims strides, Dtype dtype) {
  int64_t extent = 1;
  bool empty = false;
  for (size_t dim = 0; dim < sizes.size(); ++dim) {
    extent += (sizes.begin()[dim] - 1) * strides.begin()[dim];
    empty |= sizes.begin()[dim] == 0;
  }
  const int64_t bytes = empty ? 0 : extent * element_bytes(dtype);
  AtenTensorHandle made = bytes >= api.results->least ? reuse_result(sizes, strides, dtype, bytes) : nullptr;
  if (made) return made;
  check(api.aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides.begin(), dtype, cpu, no_index, &made));
  if (bytes >= api.results->least) keep_result(made, sizes, strides, dtype, bytes);
  return made;
}

}  // namespace tw
