"""The studies that ship: the paper's tables and Figure 3, and `field`, all methods on equal terms.

A method that is registered later joins a study by one line.
"""

from ar_net_jax.compare.study import COST_PENALTY, Row, Study, Varied

PENALTIES = Varied(COST_PENALTY, (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0))


def _frames(*shares: float, field: str = "data.num_frames") -> Varied:
    return Varied(field, shares, of_frames=True)


EIGHTHS = tuple(i / 8 for i in range(1, 9))

UNIFORM = Row("uniform", "uniform", start="ar_net", varied=_frames(*EIGHTHS), published="Uniform")
LSTM = Row("lstm", "lstm", start="ar_net", varied=_frames(0.25, 0.5), published="LSTM")
RANDOM = Row("random_policy", "random_policy", start="ar_net", published="Random policy")
MULTI_SCALE = Row("multi_scale", "multi_scale", start="ar_net", published="Multi-Scale")
AR_NET = Row("ar_net", varied=PENALTIES, published="AR-Net")
SCSAMPLER = Row(
    "scsampler",
    "scsampler",
    varied=_frames(0.125, 0.25, 0.5, 0.75, field="model.frames"),
    published="SCSampler",
)
ADAFRAME = Row(
    "adaframe",
    "adaframe",
    varied=Varied("model.utility_margin", (0.02, 0.1, 0.2, 0.4)),
    published="AdaFrame",
)
LITEEVAL = Row("liteeval", "liteeval", varied=PENALTIES, published="LiteEval")
LISTENTOLOOK = Row(
    "listentolook",
    "listentolook",
    varied=_frames(0.125, 0.25, 0.5, 0.75, field="model.frames"),
    published="ListenToLook (image)",
)
MULTI_AGENT = Row(
    "multi_agent",
    "multi_agent",
    varied=Varied("model.agents", (1, 2, 3, 4)),
    published="MultiAgent",
)
# Their heads are part of them.
FRAMEEXIT = Row("frameexit", "frameexit", varied=PENALTIES, own_head=True, published="FrameExit")
FRAMEEXIT_CONFIDENCE = Row(
    "frameexit_confidence",
    "frameexit_confidence",
    varied=Varied("model.confidence", (0.5, 0.7, 0.8, 0.9, 0.99)),
    own_head=True,
    published="FrameExit",
)
OCSAMPLER = Row(
    "ocsampler",
    "ocsampler",
    varied=_frames(0.125, 0.25, 0.5, 0.75, field="model.frames"),
    own_head=True,
    published="OCSampler",
)


def _efficientnet(row: Row) -> Row:
    start = f"{row.start}_efficientnet" if row.start else ""
    return Row(
        f"{row.name}_efficientnet",
        ",".join(filter(None, ("efficientnet", row.variant))),
        start=start,
        varied=row.varied,
        published=f"{row.published} (EfficientNet)",
    )


_SIMPLE = (UNIFORM, LSTM, RANDOM, MULTI_SCALE, AR_NET)
_EFFICIENT = _efficientnet(AR_NET)

TABLE1 = Study(
    "table1",
    "AR-Net and simple baselines, with ResNets and EfficientNets",
    (*_SIMPLE, *(_efficientnet(row) for row in _SIMPLE)),
)
TABLE2 = Study(
    "table2",
    "AR-Net and the efficient methods before it",
    (ADAFRAME, LITEEVAL, LISTENTOLOOK, SCSAMPLER, AR_NET, _EFFICIENT, UNIFORM),
)
TABLE3 = Study(
    "table3",
    "as table2, the methods with figures on Mini-Kinetics",
    (LITEEVAL, SCSAMPLER, AR_NET, _EFFICIENT, UNIFORM),
)
TABLE4 = Study(
    "table4",
    "what the policy may choose, at equal cost",
    (
        UNIFORM,
        LSTM,
        Row(
            "resolution_only",
            "resolution_only",
            start="ar_net",
            published="Resolution only",
            match="ar_net",
        ),
        Row(
            "skipping_only",
            "skipping_only",
            start="ar_net",
            published="Skipping only",
            match="ar_net",
        ),
        AR_NET,
    ),
)
TABLE5 = Study(
    "table5",
    "the losses of equation 12",
    (
        Row("accuracy_only", "accuracy_only", start="ar_net", published="Acc"),
        Row("accuracy_efficiency", "accuracy_efficiency", start="ar_net", published="Acc+Eff"),
        AR_NET,
        UNIFORM,
    ),
)
TABLE6 = Study(
    "table6",
    "the stages of training",
    (
        Row("joint_only", "joint_only", published="Joint alone"),
        Row("no_finetune", "no_finetune", start="ar_net", published="Warm-up and joint"),
        AR_NET,
        UNIFORM,
    ),
)
FIGURE3 = Study(
    "figure3",
    "accuracy against computation of every method of Figure 3",
    (MULTI_AGENT, ADAFRAME, LITEEVAL, LISTENTOLOOK, SCSAMPLER, LSTM, UNIFORM, AR_NET, _EFFICIENT),
)
FIELD = Study(
    "field",
    "all methods with one head, equal backbones and epochs",
    (
        *_SIMPLE,
        SCSAMPLER,
        LITEEVAL,
        ADAFRAME,
        LISTENTOLOOK,
        MULTI_AGENT,
        FRAMEEXIT,
        FRAMEEXIT_CONFIDENCE,
        OCSAMPLER,
        Row("adafocus_v2", "adafocus_v2", own_head=True, published="AdaFocusV2"),
        Row("uni_adafocus", "uni_adafocus", own_head=True, published="Uni-AdaFocus"),
    ),
    head="max_mlp",
    # All rows at full length take a day on two cores.
    embedded="brief",
)

STUDIES = {
    study.name: study for study in (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, FIGURE3, FIELD)
}
