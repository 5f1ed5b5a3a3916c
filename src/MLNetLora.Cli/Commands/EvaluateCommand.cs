using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Evaluation;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Commands;

/// <summary>evaluate: how well a model knows rows, and how near its answers come.</summary>
internal static class EvaluateCommand
{
    private const string Description = """
        Measures a model on rows with answers: loss, perplexity and token accuracy, and how near the answers come that it generates.

        Examples:
          mlnetlora evaluate --model out/company/model.zip --data held-out.json
          mlnetlora evaluate run.yaml --data held-out.json --json
          mlnetlora evaluate --model Qwen/Qwen3-0.6B --data held-out.json --loss-only
        """;

    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, NewLine = "\n" };

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("evaluate", Description, CommandKinds.Evaluate);
        Argument<string?> config = TrainCommand.ConfigArgument();
        Option<bool> lossOnly = new("--loss-only") { Description = "Leaves the answers out, which take longest" };
        Option<bool> json = new("--json") { Description = "As JSON" };
        command.Arguments.Add(config);
        command.Options.Add(lossOnly);
        command.Options.Add(json);
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            SettingsReader reader = command.Settings.Read(parsed, TrainCommand.Files(parsed, config));
            RunSettings settings = reader.Settings();
            TrainingRun.WriteIgnored(screen, reader);
            settings.ValidationSize = 0;
            settings.Validation = [];
            MLContext ml = new(settings.Training.Seed);
            using QwenLoraTransformer model = EvaluatedModel.Open(screen, ml, reader, settings);
            IDataView rows = RowFiles.Open(ml, settings).Rows;
            LanguageModelMetrics loss = model.EvaluateLoss(rows, 1, screen.Interruption.Token);
            JsonObject found = new()
            {
                ["rows"] = loss.Rows,
                ["label_tokens"] = loss.LabelTokens,
                ["loss"] = loss.Loss,
                ["perplexity"] = loss.Perplexity,
                ["token_accuracy"] = loss.TokenAccuracy,
            };
            if (!parsed.GetValue(lossOnly))
            {
                Add(found, ml.TextGeneration.Evaluate(model.Transform(rows), errorColumnName: EvaluatedModel.ErrorColumn));
            }

            if (parsed.GetValue(json))
            {
                screen.Out.WriteLine(found.ToJsonString(s_json));
            }
            else
            {
                screen.WriteTable(["measure", "value"], found.Select(item => (IReadOnlyList<string>)[item.Key.Replace('_', ' '), Text(item.Value!)]));
            }

            return ExitCode.Success;
        }));
        return command;
    }

    private static void Add(JsonObject found, TextGenerationMetrics answers)
    {
        found["exact_match"] = answers.ExactMatch;
        found["rouge_1"] = answers.Rouge1;
        found["rouge_2"] = answers.Rouge2;
        found["rouge_l"] = answers.RougeL;
        found["bleu_4"] = answers.Bleu4;
        found["chrf"] = answers.ChrF;
        found["chrf_plus_plus"] = answers.ChrFPlusPlus;
        found["mean_answer_length"] = answers.MeanAnswerLength;
        found["mean_reference_length"] = answers.MeanReferenceLength;
        found["empty_answers"] = answers.EmptyAnswers;
        found["failed_rows"] = answers.FailedRows;
        found["rows_without_reference"] = answers.RowsWithoutReference;
    }

    private static string Text(JsonNode value) => value.AsValue().TryGetValue(out long whole)
        ? whole.ToString("N0", CultureInfo.InvariantCulture)
        : value.GetValue<double>().ToString("0.####", CultureInfo.InvariantCulture);
}
