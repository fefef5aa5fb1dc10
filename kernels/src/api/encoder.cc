// The C interface: encoders.
#include "layers/encoder.h"

#include "api/arguments.h"

using optops::Arrays;
using optops::BlobKind;
using optops::coded;
using optops::Encoder;
using optops::fail;
using optops::guarded;
using optops::Packed;

struct optops_encoder {
  Packed<Encoder> packed;
};

optops_encoder* optops_encoder_pack(const optops_encoder_config* config,
                                    const float* const* weights, int64_t count,
                                    optops_status* status) {
  return guarded<optops_encoder*>(status, nullptr, [&] {
    if (!config) fail(OPTOPS_INVALID, "encoder: the config is missing");
    Arrays arrays(weights, count);
    return new optops_encoder{Packed<Encoder>::pack(BlobKind::kEncoder, optops::numbers_of(*config),
                                                    [&](Encoder& encoder) {
                                                      encoder.fill(arrays);
                                                      arrays.end();
                                                    })};
  });
}

void optops_encoder_free(optops_encoder* encoder) { delete encoder; }

void optops_encoder_sizes(const optops_encoder* encoder, int64_t* sizes) {
  if (!encoder || !sizes) return;
  sizes[0] = encoder->packed.model.sizes.width;
}

const void* optops_encoder_blob(const optops_encoder* encoder, int64_t* bytes) {
  if (bytes) *bytes = encoder ? encoder->packed.block.bytes() : 0;
  return encoder ? encoder->packed.block.data() : nullptr;
}

optops_encoder* optops_encoder_open(const void* blob, int64_t bytes, optops_status* status) {
  return guarded<optops_encoder*>(status, nullptr, [&] {
    return new optops_encoder{Packed<Encoder>::open(BlobKind::kEncoder, blob, bytes)};
  });
}

int32_t optops_encoder_run(const optops_encoder* encoder, const float* x, const int64_t* starts,
                           int64_t sentences, float* y, int32_t threads, optops_status* status) {
  return coded(status, [&] {
    if (!encoder) fail(OPTOPS_INVALID, "encoder_run: the encoder is missing");
    optops::check_starts(starts, sentences, optops::kLongestSentence);
    if (sentences && (!x || !y)) fail(OPTOPS_INVALID, "encoder_run: x or y is missing");
    if (sentences) {
      optops::run_encoder(encoder->packed.model, x, starts, sentences, y,
                          optops::threads_for(threads));
    }
  });
}
