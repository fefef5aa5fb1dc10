#include "layers/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace optops {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Better ones first; ties go to the earlier hypothesis, then to the order of its outputs.
bool before(const Continuation& a, const Continuation& b) {
  if (a.score != b.score) return a.score > b.score;
  if (a.slot != b.slot) return a.slot < b.slot;
  if (a.value != b.value) return a.value > b.value;
  return a.output < b.output;
}

// Takes a continuation into the best `most`, which are in order.
void offer(std::vector<Continuation>& best, size_t most, const Continuation& found) {
  if (best.size() == most) {
    if (!before(found, best.back())) return;
    best.pop_back();
  }
  best.insert(std::upper_bound(best.begin(), best.end(), found, before), found);
}

}  // namespace

void BeamSearch::start(const optops_search& settings, const int32_t* limits, int64_t sentences,
                       int32_t begin, int32_t end) {
  settings_ = settings;
  end_ = end;
  const int64_t beam = settings.beam;
  all_.resize(sentences);
  for (int64_t i = 0; i < sentences; ++i) {
    Sentence& sentence = all_[i];
    sentence.limit = limits[i];
    sentence.done = false;
    sentence.finished = 0;
    sentence.slots = 1;
    sentence.alive.assign(beam, kNever);
    sentence.alive[0] = 0.0F;
    sentence.written.assign(sentence.limit * beam, begin);
    for (auto& path : sentence.paths) path.assign(sentence.limit * beam, 0);
    sentence.results.resize(settings.results);
    for (Result& result : sentence.results) result.ids.reserve(sentence.limit);
    sentence.kept = 0;
    sentence.best.clear();
    sentence.best.reserve(2 * beam);
  }
  sentences_.resize(sentences);
  for (int64_t i = 0; i < sentences; ++i) sentences_[i] = i;
  first_rows_.reserve(sentences + 1);
  tokens_.reserve(sentences * beam);
  ancestors_.reserve(sentences * beam);
  advance(-1);
}

void BeamSearch::take(int64_t index, int64_t position, const Found& found) {
  Sentence& sentence = all_[sentences_[index]];
  const int64_t beam = settings_.beam, length = position + 1, first = first_rows_[index];
  const bool last = length >= sentence.limit;
  if (last) {
    for (int64_t slot = 0; slot < sentence.slots; ++slot) {
      const int64_t row = first + slot;
      const float score = sentence.alive[slot] + (found.ends[row] - found.log_sums[row]);
      finish(sentence, position, slot, score / penalty(length));
    }
    sentence.done = true;
    return;
  }
  std::vector<Continuation>& best = sentence.best;
  best.clear();
  for (int64_t slot = 0; slot < sentence.slots; ++slot) {
    const int64_t row = first + slot;
    for (int64_t list = 0; list < found.lists; ++list) {
      const int64_t start = (list * found.rows + row) * found.choices;
      for (int64_t i = start; i < start + found.choices && found.outputs[i] >= 0; ++i) {
        const float score = sentence.alive[slot] + (found.values[i] - found.log_sums[row]);
        // The rest of a list is no better.
        if (best.size() == static_cast<size_t>(2 * beam) && score < best.back().score) break;
        if (score > kNever) {
          offer(best, 2 * beam,
                {score, found.values[i], static_cast<int32_t>(slot), found.outputs[i]});
        }
      }
    }
  }
  for (size_t i = 0; i < best.size() && i < static_cast<size_t>(beam); ++i) {
    if (best[i].output != end_) continue;
    finish(sentence, position, best[i].slot, best[i].score / penalty(length));
    ++sentence.finished;
  }
  const std::vector<uint8_t>& path = sentence.paths[position & 1];
  std::vector<uint8_t>& next = sentence.paths[(position + 1) & 1];
  int64_t slot = 0;
  for (size_t i = 0; i < best.size() && slot < beam; ++i) {
    if (best[i].output == end_) continue;
    const auto from = path.begin() + best[i].slot * sentence.limit;
    const auto to = next.begin() + slot * sentence.limit;
    std::copy(from, from + length, to);
    to[length] = static_cast<uint8_t>(slot);
    sentence.alive[slot] = best[i].score;
    sentence.written[length * beam + slot] = best[i].output;
    ++slot;
  }
  sentence.slots = slot;
  sentence.done = slot == 0 || sentence.finished >= beam;
  // With one result wanted, the search is over when no running hypothesis can beat it any more.
  // What they have can only shrink, and weighs least where it is divided by most: at the limit, or,
  // if the penalty falls with the length, at once.
  if (!sentence.done && settings_.results == 1 && sentence.kept) {
    const int64_t best_length = settings_.length_penalty < 0 ? length + 1 : sentence.limit;
    sentence.done = sentence.alive[0] / penalty(best_length) <= sentence.results[0].score;
  }
}

void BeamSearch::advance(int64_t position) {
  std::erase_if(sentences_, [&](int64_t sentence) { return all_[sentence].done; });
  first_rows_.assign(1, 0);
  tokens_.clear();
  ancestors_.clear();
  const int64_t next = position + 1;
  for (const int64_t index : sentences_) {
    const Sentence& sentence = all_[index];
    for (int64_t slot = 0; slot < sentence.slots; ++slot) {
      tokens_.push_back(sentence.written[next * settings_.beam + slot]);
      ancestors_.push_back(sentence.paths[next & 1].data() + slot * sentence.limit);
    }
    first_rows_.push_back(first_rows_.back() + sentence.slots);
  }
}

void BeamSearch::write(int64_t capacity, int32_t padding, int32_t* ids, int32_t* lengths,
                       float* scores) const {
  for (const Sentence& sentence : all_) {
    for (int64_t i = 0; i < settings_.results; ++i, ids += capacity, ++lengths, ++scores) {
      std::fill(ids, ids + capacity, padding);
      *lengths = 0;
      *scores = std::numeric_limits<float>::quiet_NaN();
      if (i >= static_cast<int64_t>(sentence.kept)) continue;
      const Result& result = sentence.results[i];
      std::copy(result.ids.begin(), result.ids.end(), ids);
      *lengths = static_cast<int32_t>(result.ids.size());
      *scores = result.score;
    }
  }
}

float BeamSearch::penalty(int64_t length) const {
  return static_cast<float>(std::pow((5.0 + static_cast<double>(length)) / 6.0,
                                     static_cast<double>(settings_.length_penalty)));
}

void BeamSearch::finish(Sentence& sentence, int64_t position, int64_t slot, float score) {
  if (!(score > kNever)) return;
  // What is no better than the kept ones takes the place after them; if they are full, the worst's.
  auto& results = sentence.results;
  size_t place = sentence.kept;
  while (place > 0 && score > results[place - 1].score) --place;
  if (place == results.size()) return;
  if (sentence.kept < results.size()) ++sentence.kept;
  const auto at = results.begin() + static_cast<int64_t>(place);
  std::rotate(at, results.begin() + static_cast<int64_t>(sentence.kept) - 1,
              results.begin() + static_cast<int64_t>(sentence.kept));
  const uint8_t* path = sentence.paths[position & 1].data() + slot * sentence.limit;
  at->score = score;
  at->ids.clear();
  for (int64_t i = 1; i <= position; ++i)
    at->ids.push_back(sentence.written[i * settings_.beam + path[i]]);
  at->ids.push_back(end_);
}

}  // namespace optops
