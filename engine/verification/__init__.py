"""Was it forgotten? Items are drawn when the weights are fixed, models turn them into numbers, those into findings.

`items` and `layouts` say what is asked, `measure` asks a model (the only module here with torch), `muse`,
`membership` and `restor` say what a metric is, `statistics` puts intervals around it, `findings` compares before,
after and reference.
"""
