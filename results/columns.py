"""The columns of every table: name -> (dtype, meaning with unit). They are stable, in name, order and dtype.

An error is what is minimised, in the unit of the data set's metric: percent of the images wrongly classified; or for
denoising −PSNR in dB, so that smaller is better and differences are in dB. A loss is the mean cross entropy in nats,
or for denoising the mean squared error where pixels have the variance 1. Times are in seconds, dates in UTC; a missing
value is NA.
"""

from __future__ import annotations

Columns = dict[str, tuple[str, str]]

DATE = "datetime64[us, UTC]"
STATUSES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL")
ROLES = ("winner", "candidate", "twin", "baseline")

MEASURED = ("validation_error", "validation_loss", "train_loss", "test_error")
"""What a network's training measures: where one of these is not finite, the row says so as its failure."""

TRIALS: Columns = {
    "number": ("Int64", "number of the trial in its run, from 0"),
    "label": ("string", "name of the scheme, such as 'lm' or '2-step order 1'"),
    "status": ("string", "RUNNING, COMPLETE (the whole budget), PRUNED (stopped before it) or FAIL"),
    "stop_reason": ("string", "why it ended: 'budget reached', 'stopped by asha at epoch 2', or what failed"),
    "failure": ("string", "last lines of the traceback, or the measure that was not finite; NA where nothing failed"),
    "attempts": ("Int64", "how often it was begun: more than once where a worker was lost or memory ran out"),
    "feasible": ("boolean", "whether it keeps the constraints of the search; NA where not known yet"),
    "validation_error": ("Float64", "error on the validation images, after the last epoch done (not the best one)"),
    "validation_loss": ("Float64", "loss on the validation images, after the last epoch done"),
    "train_loss": ("Float64", "mean loss over the last epoch done"),
    "epochs": ("Int64", "epochs done"),
    "budget": ("Int64", "epochs asked for"),
    "data": ("string", "name of the data set"),
    "train_size": ("Int64", "images trained on"),
    "validation_size": ("Int64", "images validated on"),
    "seed": ("Int64", "seed of the weights, the order of the images and their augmentation"),
    "params": ("Int64", "trainable parameters"),
    "macs": ("Int64", "multiply-accumulates for one image (half of the FLOPs)"),
    "evaluations": ("Int64", "evaluations of residual branches in one pass through the network"),
    "latency": ("Float64", "milliseconds of one image through the network on the trial's device, median; or NA"),
    "depth": ("Int64", "layers with weights, as in ResNet-20"),
    "widths": ("string", "channels of the network's stages, such as '16-32-64'"),
    "steps": ("Int64", "past states k that a step of the scheme reads"),
    "stages": ("Int64", "evaluations of the residual s in a step of the scheme"),
    "order": ("Int64", "order of consistency of the scheme as drawn"),
    "zero_stable": ("boolean", "whether the scheme as drawn meets the root condition"),
    "error_constant": ("Float64", "normalised error constant of the scheme as drawn, without unit"),
    "real_interval": ("Float64", "length a of the stability interval (−a, 0), in units of step × eigenvalue"),
    "imaginary_interval": ("Float64", "half length a of the stability interval (−ai, ai), in the same units"),
    "learning": ("string", "what becomes of the coefficients in training: fixed, scheduled or learned"),
    "sharing": ("string", "what has coefficients of its own, where they are learned: shared, step or channel"),
    "constraint": ("string", "what learned coefficients keep, such as 'none' or 'zero-stable'"),
    "scale": ("string", "how the weights of the slopes are normalised"),
    "start": ("string", "how the history begins"),
    "transition": ("string", "what becomes of history where the network changes shape: restart or project"),
    "tying": ("string", "which branches share their weights: none, stages or steps"),
    "block": ("string", "kind of the residual blocks, such as 'basic'"),
    "activation": ("string", "activation of the residual blocks, such as 'relu'"),
    "noise": ("string", "noise in training: none, depth (stochastic), shake, additive, multiplicative, and how drawn"),
    "noise_rate": ("Float64", "size of that noise: the last block's drop rate, share, or standard deviation"),
    "seconds": ("Float64", "wall time of the training, validation included"),
    "started": (DATE, "when it was started"),
    "finished": (DATE, "when it ended; NA while it runs"),
    "hostname": ("string", "machine"),
    "device": ("string", "processor or accelerator it was trained on"),
    "scheme": ("string", "the scheme as JSON: what Scheme.from_dict reads"),
    "draw": ("string", "what the sampler drew, as JSON: parameter -> value"),
    "checkpoint": ("string", "path of the weights, relative to the run folder; NA where none were kept"),
    "version_odenas": ("string", "version of odenas"),
    "version_torch": ("string", "version of torch"),
    "commit": ("string", "commit of the source, where it is known"),
}

EPOCHS: Columns = {
    "number": ("Int64", "number of the trial"),
    "epoch": ("Int64", "epochs done, from 1"),
    "train_loss": ("Float64", "mean loss over the epoch, as it is minimised: with label smoothing, if there is any"),
    "train_error": ("Float64", "error on the augmented training images, over the epoch"),
    "validation_loss": ("Float64", "plain loss on the validation images, after the epoch"),
    "validation_error": ("Float64", "error on the validation images, after the epoch"),
    "learning_rate": ("Float64", "learning rate at the end of the epoch"),
    "seconds": ("Float64", "wall time of the epoch, validation included"),
    "finished": (DATE, "when the epoch ended"),
}

COEFFICIENTS: Columns = {
    "number": ("Int64", "number of the trial"),
    "epoch": ("Int64", "epochs done; 0 is before training"),
    "stage": ("Int64", "stage of the network, from 0"),
    "block": ("Int64", "step within the stage, from 0"),
    "channel": ("Int64", "channel, from 0; NA where the channels share the value"),
    "symbol": ("string", "V (weight of a state), R (of an earlier slope) or B (of the newest slopes)"),
    "index": ("Int64", "position within V, R or B, newest first"),
    "value": ("Float64", "the weight, without unit"),
}

CONFIRMATIONS: Columns = {
    "label": ("string", "name of the network, one for each network, such as 'trial 12: lm'"),
    "role": ("string", "winner, candidate, twin (the same with forward Euler) or baseline"),
    "number": ("Int64", "number of the trial it retrains, or whose twin it is; NA where there is none"),
    "twin_of": ("string", "label of the network whose twin it is; NA where it is no twin"),
    "scheme": ("string", "the scheme as JSON: what Scheme.from_dict reads"),
    "data": ("string", "name of the data set"),
    "train_size": ("Int64", "images trained on"),
    "seed": ("Int64", "seed of the weights, the order of the images and their augmentation"),
    "params": ("Int64", "trainable parameters"),
    "epochs": ("Int64", "epochs done"),
    "budget": ("Int64", "epochs asked for"),
    "train_loss": ("Float64", "mean loss over the last epoch"),
    "validation_error": ("Float64", "error on the validation images, after the last epoch; NA if trained on them"),
    "test_error": ("Float64", "error on the test images, after the last epoch"),
    "seconds": ("Float64", "wall time of the training"),
    "started": (DATE, "when it was started"),
    "finished": (DATE, "when it ended; NA while it runs"),
    "hostname": ("string", "machine"),
    "device": ("string", "processor or accelerator it was trained on"),
    "status": ("string", "RUNNING, COMPLETE or FAIL"),
    "failure": ("string", "last lines of the traceback, or the measure that was not finite; NA where nothing failed"),
    "version_odenas": ("string", "version of odenas"),
    "version_torch": ("string", "version of torch"),
    "commit": ("string", "commit of the source, where it is known"),
    "test_parts": ("string", "test error by part, as JSON: such as 'σ 15' (noise) -> error; NA where there is one"),
    "stop_reason": ("string", "why it ended: 'budget reached', or what failed in a few words"),
}

SUMMARY: Columns = {
    "label": ("string", "name of the network"),
    "role": ("string", "winner, candidate, twin or baseline"),
    "number": ("Int64", "number of the trial, or NA"),
    "twin_of": ("string", "label of the network whose twin it is, or NA"),
    "data": ("string", "name of the data set"),
    "train_size": ("Int64", "images trained on"),
    "budget": ("Int64", "epochs of each training"),
    "params": ("Int64", "trainable parameters"),
    "seeds": ("Int64", "trainings that finished with a finite test error: n"),
    "failed": ("Int64", "trainings that did not"),
    "mean": ("Float64", "mean test error over the n seeds"),
    "std": ("Float64", "sample standard deviation (n − 1) of the test error; NA for one seed"),
    "low": ("Float64", "lower end of the 95 % t interval of the mean; NA without spread"),
    "high": ("Float64", "upper end of it"),
    "pairs": ("Int64", "seeds that the network and its twin both finished"),
    "difference": ("Float64", "mean over the pairs of its test error less the twin's; negative is better"),
    "difference_low": ("Float64", "lower end of the 95 % t interval of the difference, not corrected for K"),
    "difference_high": ("Float64", "upper end of it"),
    "p_value": ("Float64", "paired two-sided t test of no difference"),
    "p_holm": ("Float64", "the same corrected by Holm for the K comparisons; the verdict goes by it"),
    "verdict": ("string", "in words: better than its Euler twin, worse, within noise, or why nothing can be said"),
    "comparisons": ("Int64", "K: networks compared with a twin on the same data, as many images and epochs"),
    "seeds_needed": ("Int64", "where it is within noise: seeds that would show such a difference; NA if over 10 000"),
    "validation_error": ("Float64", "mean error on the validation images over the n seeds"),
}

PUBLISHED: Columns = {
    "network": ("string", "name of the network"),
    "scheme": ("string", "name of its scheme in odenas"),
    "depth": ("Int64", "layers with weights"),
    "data": ("string", "data set"),
    "params": ("Int64", "parameters as the source rounds them, misprints corrected (see the note)"),
    "error_percent": ("Float64", "test error in percent (ImageNet: validation, top-1, one crop)"),
    "spread": ("Float64", "standard deviation over runs, in points; NA where not given"),
    "n_runs": ("Int64", "runs behind the number; NA where not given"),
    "statistic": ("string", "what the number is of the runs: single, best, best epoch, median, mean or not stated"),
    "source": ("string", "where the number stands"),
    "note": ("string", "what to know before comparing with it"),
}
