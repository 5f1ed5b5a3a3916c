using System.CommandLine;
using MLNetLora.Bench;

Option<string> model = new("--model") { Required = true, Description = "Checkpoint folder; tools/SyntheticCheckpoint makes one of any size" };
Option<int> batch = new("--batch") { DefaultValueFactory = _ => 1, Description = "Rows per step" };
Option<int> length = new("--length") { DefaultValueFactory = _ => 512, Description = "Tokens per row" };
Option<double> labelled = new("--labelled") { DefaultValueFactory = _ => 0.5, Description = "Share of the tokens that have a label" };
Option<int> rank = new("--rank") { DefaultValueFactory = _ => 64, Description = "LoRA rank" };
Option<string> targets = new("--targets") { DefaultValueFactory = _ => "q_proj,v_proj", Description = "Adapted layers" };
Option<double> dropout = new("--dropout") { DefaultValueFactory = _ => 0.05, Description = "LoRA dropout" };
Option<bool> checkpointing = new("--checkpointing") { Description = "Recompute activations" };
Option<int> steps = new("--steps") { DefaultValueFactory = _ => 3, Description = "Steps after the first" };
Option<int> threads = new("--threads") { DefaultValueFactory = _ => 0, Description = "Threads; 0 takes all cores" };
Command training = new("training", "LoRA training steps beside the floor of their matrix products") { model, batch, length, labelled, rank, targets, dropout, checkpointing, steps, threads };
training.SetAction(p => TrainingBench.Run(p.GetValue(model)!, p.GetValue(batch), p.GetValue(length), p.GetValue(labelled), p.GetValue(rank), p.GetValue(targets)!.Split(','), p.GetValue(dropout), p.GetValue(checkpointing), p.GetValue(steps), p.GetValue(threads)));
return new RootCommand("Measures MLNetLora beside floors and peers") { training }.Parse(args).Invoke();
