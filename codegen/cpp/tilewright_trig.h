// sin and cos of any float: 2^k modulo 2 pi for k = 0 .. 104 in three parts (29, 29 and 53 bits), so that the products of
// a 24-bit mantissa with the first two are exact (Cody and Waite 1980; Payne and Hanek 1983 for the idea of the table).
#pragma once

namespace tw {

static const double power_of_two_mod_2pi[105][3] = {
    {1.0, 0.0, 0.0},
    {0x1.0000000000000p+1, 0.0, 0.0},
    {-0x1.243f6a9000000p+1, 0x1.de973dd000000p-29, -0x1.313198a2e0370p-59},
    {0x1.b7812af000000p+0, -0x1.0b4611a000000p-32, -0x1.898cc51701b84p-62},
    {-0x1.6cbe3fa000000p+1, 0x1.9bc5b96000000p-29, 0x1.b1acd85d7d6bbp-61},
    {0x1.2b0bad5000000p-1, 0x1.63d0d3e000000p-31, 0x1.41009a33dd9b8p-64},
    {0x1.2b0bad5000000p+0, 0x1.63d0d3e000000p-30, 0x1.41009a33dd9b8p-63},
    {0x1.2b0bad5000000p+1, 0x1.63d0d3e000000p-29, 0x1.41009a33dd9b8p-62},
    {-0x1.9c501fc000000p+0, 0x1.4c71cb2000000p-30, -0x1.c1e2e42bd1a05p-60},
    {0x1.87ef4ad000000p+1, -0x1.244ae56000000p-30, -0x1.21629711e2d29p-60},
    {-0x1.460d4ed000000p-3, -0x1.6ce9e65000000p-35, -0x1.4a17da6184cb2p-66},
    {-0x1.460d4ed000000p-2, -0x1.6ce9e65000000p-34, -0x1.4a17da6184cb2p-65},
    {-0x1.460d4ed000000p-1, -0x1.6ce9e65000000p-33, -0x1.4a17da6184cb2p-64},
    {-0x1.460d4ed000000p+0, -0x1.6ce9e65000000p-32, -0x1.4a17da6184cb2p-63},
    {-0x1.460d4ed000000p+1, -0x1.6ce9e65000000p-31, -0x1.4a17da6184cb2p-62},
    {0x1.304999d000000p+0, -0x1.2a1861f000000p-30, 0x1.bd574414fe088p-60},
    {0x1.304999d000000p+1, -0x1.2a1861f000000p-29, 0x1.bd574414fe088p-59},
    {-0x1.87586de000000p+0, -0x1.d666182000000p-31, 0x1.25f3be1c6f67cp-61},
    {-0x1.87586de000000p+1, -0x1.d666182000000p-30, 0x1.25f3be1c6f67cp-60},
    {0x1.58e8ec1000000p-3, 0x1.6055433000000p-34, -0x1.1b5528160c272p-64},
    {0x1.58e8ec1000000p-2, 0x1.6055433000000p-33, -0x1.1b5528160c272p-63},
    {0x1.58e8ec1000000p-1, 0x1.6055433000000p-32, -0x1.1b5528160c272p-62},
    {0x1.58e8ec1000000p+0, 0x1.6055433000000p-31, -0x1.1b5528160c272p-61},
    {0x1.58e8ec1000000p+1, 0x1.6055433000000p-30, -0x1.1b5528160c272p-60},
    {-0x1.c9b6499000000p-1, 0x1.f76407b000000p-32, 0x1.9bc9fa389d0eep-62},
    {-0x1.c9b6499000000p+0, 0x1.f76407b000000p-31, 0x1.9bc9fa389d0eep-61},
    {0x1.5a89210000000p+1, -0x1.c5ca73e000000p-30, -0x1.d2d481a28311bp-68},
    {-0x1.bcb4a24000000p-1, 0x1.8ccc9eb000000p-33, 0x1.9f725b6fa8bcep-64},
    {-0x1.bcb4a24000000p+0, 0x1.8ccc9eb000000p-32, 0x1.9f725b6fa8bcep-63},
    {0x1.678ac85000000p+1, -0x1.7b64162000000p-29, 0x1.947f9043553a9p-61},
    {-0x1.54a767d000000p-1, -0x1.830ee72000000p-33, 0x1.90e2f7eca6640p-63},
    {-0x1.54a767d000000p+0, -0x1.830ee72000000p-32, 0x1.90e2f7eca6640p-62},
    {-0x1.54a767d000000p+1, -0x1.830ee72000000p-31, 0x1.90e2f7eca6640p-61},
    {0x1.ebc26b9000000p-1, 0x1.7f853aa000000p-31, -0x1.973ad9b325be1p-65},
    {0x1.ebc26b9000000p+0, 0x1.7f853aa000000p-30, -0x1.973ad9b325be1p-64},
    {-0x1.387cfef000000p+1, -0x1.43c70f3000000p-30, 0x1.6ab57383dada3p-60},
    {0x1.668ad94000000p+0, 0x1.bb43661000000p-30, 0x1.37ce184d76227p-60},
    {0x1.668ad94000000p+1, 0x1.bb43661000000p-29, 0x1.37ce184d76227p-59},
    {-0x1.5ca6dff000000p-1, 0x1.547827d000000p-31, 0x1.f354bfc0606e9p-62},
    {-0x1.5ca6dff000000p+0, 0x1.547827d000000p-30, 0x1.f354bfc0606e9p-61},
    {-0x1.5ca6dff000000p+1, 0x1.547827d000000p-29, 0x1.f354bfc0606e9p-60},
    {0x1.abc6aad000000p-1, -0x1.ad37712000000p-32, 0x1.2432c31a052ccp-62},
    {0x1.abc6aad000000p+0, -0x1.ad37712000000p-31, 0x1.2432c31a052ccp-61},
    {-0x1.7878bfc000000p+1, 0x1.07fb854000000p-29, -0x1.3e306e2bbb415p-60},
    {0x1.9a6f588000000p-2, 0x1.8afe658000000p-32, -0x1.9fdab11b61494p-64},
    {0x1.9a6f588000000p-1, 0x1.8afe658000000p-31, -0x1.9fdab11b61494p-63},
    {0x1.9a6f588000000p+0, 0x1.8afe658000000p-30, -0x1.9fdab11b61494p-62},
    {-0x1.89d0120000000p+1, -0x1.2cd4b97000000p-30, 0x1.9b5eec591ddaap-61},
    {0x1.09f4684000000p-3, -0x1.6d7ee70000000p-34, -0x1.1ef13090dba7dp-67},
    {0x1.09f4684000000p-2, -0x1.6d7ee70000000p-33, -0x1.1ef13090dba7dp-66},
    {0x1.09f4684000000p-1, -0x1.6d7ee70000000p-32, -0x1.1ef13090dba7dp-65},
    {0x1.09f4684000000p+0, -0x1.6d7ee70000000p-31, -0x1.1ef13090dba7dp-64},
    {0x1.09f4684000000p+1, -0x1.6d7ee70000000p-30, -0x1.1ef13090dba7dp-63},
    {-0x1.10569a1000000p+1, 0x1.c4615b3000000p-31, -0x1.543efad3eeb00p-61},
    {0x1.0392367000000p+1, -0x1.f8cd207000000p-30, 0x1.0e243671d1be1p-60},
    {-0x1.1d1afdb000000p+1, -0x1.a35e2a1000000p-33, 0x1.cf29dcef18703p-63},
    {0x1.d412de5000000p+0, -0x1.303030c000000p-33, -0x1.4e92bbf3cbaf2p-63},
    {-0x1.502c8c4000000p+1, 0x1.b89137b000000p-29, 0x1.49f81fbd4ca63p-60},
    {0x1.07cca43000000p+0, -0x1.b5d339a000000p-31, 0x1.eca6e180b374cp-61},
    {0x1.07cca43000000p+1, -0x1.b5d339a000000p-30, 0x1.eca6e180b374cp-60},
    {-0x1.14a6223000000p+1, 0x1.4620219000000p-32, 0x1.dbaa46ee99edfp-62},
    {0x1.f5e64c5000000p+0, 0x1.cbc32a7000000p-31, -0x1.5f8f5685e535fp-61},
    {-0x1.2e591e3000000p+1, -0x1.3b872d0000000p-29, 0x1.f06bc1a2d2dffp-63},
    {0x1.8f1a5c4000000p+0, -0x1.56965f3000000p-31, 0x1.bcfc435cea4c1p-61},
    {0x1.8f1a5c4000000p+1, -0x1.56965f3000000p-30, 0x1.bcfc435cea4c1p-60},
    {-0x1.82ac837000000p-5, -0x1.ffc8577000000p-35, -0x1.0d55517d7abd8p-65},
    {-0x1.82ac837000000p-4, -0x1.ffc8577000000p-34, -0x1.0d55517d7abd8p-64},
    {-0x1.82ac837000000p-3, -0x1.ffc8577000000p-33, -0x1.0d55517d7abd8p-63},
    {-0x1.82ac837000000p-2, -0x1.ffc8577000000p-32, -0x1.0d55517d7abd8p-62},
    {-0x1.82ac837000000p-1, -0x1.ffc8577000000p-31, -0x1.0d55517d7abd8p-61},
    {-0x1.82ac837000000p+0, -0x1.ffc8577000000p-30, -0x1.0d55517d7abd8p-60},
    {-0x1.82ac837000000p+1, -0x1.ffc8577000000p-29, -0x1.0d55517d7abd8p-59},
    {0x1.ee66399000000p-3, -0x1.e27ecb4000000p-33, 0x1.686f5a7eabc09p-63},
    {0x1.ee66399000000p-2, -0x1.e27ecb4000000p-32, 0x1.686f5a7eabc09p-62},
    {0x1.ee66399000000p-1, -0x1.e27ecb4000000p-31, 0x1.686f5a7eabc09p-61},
    {0x1.ee66399000000p+0, -0x1.e27ecb4000000p-30, 0x1.686f5a7eabc09p-60},
    {-0x1.35d9310000000p+1, -0x1.f3c6b79000000p-36, -0x1.847c4868ecf61p-68},
    {0x1.711a111000000p+0, 0x1.999a756000000p-33, 0x1.fad1c5a774a11p-63},
    {0x1.711a111000000p+1, 0x1.999a756000000p-32, 0x1.fad1c5a774a11p-62},
    {-0x1.082d21a000000p-1, 0x1.13f76c9000000p-31, 0x1.360b631bf3c4fp-61},
    {-0x1.082d21a000000p+0, 0x1.13f76c9000000p-30, 0x1.360b631bf3c4fp-60},
    {-0x1.082d21a000000p+1, 0x1.13f76c9000000p-29, 0x1.360b631bf3c4fp-59},
    {0x1.13e5275000000p+1, 0x1.255e6d8000000p-31, -0x1.8ade8494e0fc4p-61},
    {-0x1.f8ea37d000000p+0, 0x1.c519d22000000p-31, 0x1.2be4a255e95b7p-64},
    {0x1.2b5532c000000p+1, -0x1.f814a97000000p-30, -0x1.78203a6f82668p-60},
    {-0x1.9b2a0a2000000p+0, -0x1.97d6bab000000p-33, 0x1.6ae2ced9d6275p-63},
    {0x1.8915606000000p+1, 0x1.ee6deae000000p-29, -0x1.0b906c0f28208p-62},
    {-0x1.214a9b9000000p-3, -0x1.233b1d7000000p-35, -0x1.056ce9aa8fc96p-65},
    {-0x1.214a9b9000000p-2, -0x1.233b1d7000000p-34, -0x1.056ce9aa8fc96p-64},
    {-0x1.214a9b9000000p-1, -0x1.233b1d7000000p-33, -0x1.056ce9aa8fc96p-63},
    {-0x1.214a9b9000000p+0, -0x1.233b1d7000000p-32, -0x1.056ce9aa8fc96p-62},
    {-0x1.214a9b9000000p+1, -0x1.233b1d7000000p-31, -0x1.056ce9aa8fc96p-61},
    {0x1.c35466d000000p+0, -0x1.c0d3321000000p-31, -0x1.461370c99eb6bp-61},
    {-0x1.60eb03c000000p+1, 0x1.fc5b498000000p-30, 0x1.5e2577c2836d0p-62},
    {0x1.89a58c4000000p-1, 0x1.dc40bb6000000p-33, 0x1.175ed2702248ep-64},
    {0x1.89a58c4000000p+0, 0x1.dc40bb6000000p-32, 0x1.175ed2702248ep-63},
    {0x1.89a58c4000000p+1, 0x1.dc40bb6000000p-31, 0x1.175ed2702248ep-62},
    {-0x1.0f45205000000p-3, 0x1.96f36f9000000p-34, -0x1.6b3c80daf499ep-64},
    {-0x1.0f45205000000p-2, 0x1.96f36f9000000p-33, -0x1.6b3c80daf499ep-63},
    {-0x1.0f45205000000p-1, 0x1.96f36f9000000p-32, -0x1.6b3c80daf499ep-62},
    {-0x1.0f45205000000p+0, 0x1.96f36f9000000p-31, -0x1.6b3c80daf499ep-61},
    {-0x1.0f45205000000p+1, 0x1.96f36f9000000p-30, -0x1.6b3c80daf499ep-60},
    {0x1.05b529f000000p+1, -0x1.1e8f390000000p-31, -0x1.d05741c0a3169p-62},
    {-0x1.18d516b000000p+1, 0x1.4f4fa15000000p-29, -0x1.a547691308fcbp-59},
    {0x1.e52a7a6000000p+0, 0x1.8010099000000p-30, -0x1.95d398331c24ep-63},
};

// The angle x = quadrant * pi/2 + rest, |rest| <= pi/4 up to rounding, rest to about 2^-53.
struct Angle {
  double rest;
  uint64_t quadrant;
};

TW_INLINE Angle reduce_angle(float x) {
  const int32_t exponent = int32_t(bits_as<uint32_t>(x) >> 23 & 0xff) - 151;
  const int32_t k = exponent < 0 ? 0 : exponent;
  const double mantissa = double(x) * bits_as<double>(uint64_t(1023 - k) << 52);
  const double high = mantissa * power_of_two_mod_2pi[k][0];
  const double middle = mantissa * power_of_two_mod_2pi[k][1];
  const double low = mantissa * power_of_two_mod_2pi[k][2];
  const double shifted = (high + middle) * 0x1.45f306dc9c883p-1 + 0x1.8p52;
  const double n = shifted - 0x1.8p52;
  // pi/2 in parts of 25, 25 and 53 bits.
  const double rest = (high - n * 0x1.921fb5p+0) - n * 0x1.110b46p-26 + middle - n * 0x1.1a62633145c07p-54 + low;
  return {rest, bits_as<uint64_t>(shifted)};
}

TW_INLINE double sin_near_zero(double r) {
  const double z = r * r;
  double p = -0x1.a9648ce0687aap-26;
  p = p * z + 0x1.71d776a99e31fp-19;
  p = p * z - 0x1.a019f94eeff08p-13;
  p = p * z + 0x1.1111110c9a31dp-7;
  p = p * z - 0x1.5555555552386p-3;
  return r + r * z * p;
}

TW_INLINE double cos_near_zero(double r) {
  const double z = r * r;
  double p = 0x1.1bc62aaa8dd6dp-29;
  p = p * z - 0x1.27e0259fafafcp-22;
  p = p * z + 0x1.a019fa9fb5b3dp-16;
  p = p * z - 0x1.6c16c16762190p-10;
  p = p * z + 0x1.55555555530b6p-5;
  return 1.0 - 0.5 * z + z * z * p;
}

TW_INLINE float sin(float x) {
  const Angle angle = reduce_angle(x);
  const double value = angle.quadrant & 1 ? cos_near_zero(angle.rest) : sin_near_zero(angle.rest);
  return x == 0.0f ? x : float(angle.quadrant & 2 ? -value : value);
}

TW_INLINE float cos(float x) {
  const Angle angle = reduce_angle(x);
  const double value = angle.quadrant & 1 ? sin_near_zero(angle.rest) : cos_near_zero(angle.rest);
  return float((angle.quadrant + 1) & 2 ? -value : value);
}

}  // namespace tw
