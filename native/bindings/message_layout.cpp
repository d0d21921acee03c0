// The form of messages is a part of the layout hash: builds that differ in it refuse each other's
// pools. The hash is made in the core, which does not know messages, so the core has a number for
// their form (`kMessageLayout`), and this file does not compile if the number is of another form.
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_envelope.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/wire.hpp"

namespace onecopy::py {
namespace {

// If this fails, the form of messages has changed: write `is` into layout/layout.hpp.
template <u64 is, u64 expected>
constexpr bool same_form() noexcept {
    static_assert(is == expected, "the form of messages has changed: see the number `is`");
    return true;
}

// The last one of an enumeration tells its length. tests/structure/test_native_layout.py compares
// all numbers with those of the decoder.
constexpr u64 kForm = fold_layouts({
    Envelope::layout(),
    PickleHead::layout(),
    PickleBuffer::layout(),
    PackedHead::layout(),
    static_cast<u64>(Tag::packed_block),
    static_cast<u64>(Order::strided),
    static_cast<u64>(Node::built),
    static_cast<u64>(Node::short_text),
    static_cast<u64>(Node::short_int),
    static_cast<u64>(PartKind::shared),
    kPackedFlags,
    kFresh,
    kShort,
    kShared,
    kInlineBytes,
});
static_assert(same_form<kForm, kMessageLayout>());

}  // namespace
}  // namespace onecopy::py
