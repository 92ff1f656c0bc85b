#include "model/model.h"

tensor *resnet(tape *t, tensor *x, tensor *emb, int cout, int groups, float eps)
{
    tensor *h = act(t, group_norm(t, x, "norm1", groups, eps), ACT_SILU);
    h = conv2d(t, h, "conv1", cout, 3, 1);
    if (emb)
        h = add(t, h, linear(t, emb, "time_emb_proj", cout));
    h = act(t, group_norm(t, h, "norm2", groups, eps), ACT_SILU);
    h = conv2d(t, h, "conv2", cout, 3, 1);
    if (x->c != cout)
        x = conv1x1(t, x, "conv_shortcut", cout);
    return add(t, x, h);
}
