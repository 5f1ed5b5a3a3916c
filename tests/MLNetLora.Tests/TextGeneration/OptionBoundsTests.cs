using System.Reflection;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>
/// Every numeric option that a user can set, found by reflection, at the ends of its type: what makes no sense is refused by name, and what is allowed
/// works or fails with an error of this library. A new option is in it without being written here.
/// </summary>
public sealed class OptionBoundsTests : IDisposable
{
    // Any whole number is a seed, and a penalty may be a reward.
    private static readonly string[] s_belowZero = ["Seed", nameof(GenerationOptions.PresencePenalty), nameof(GenerationOptions.FrequencyPenalty)];

    private readonly Workbench _bench = new();

    public static TheoryData<string, string, double> Numbers()
    {
        TheoryData<string, string, double> data = [];
        foreach (Type type in (Type[])[typeof(QwenLoraTrainer.Options), typeof(QwenLoraTransformer.Options), typeof(GenerationOptions), typeof(LoraOptions)])
        {
            foreach (PropertyInfo property in type.GetProperties().Where(property => property.SetMethod?.IsPublic == true))
            {
                Type number = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
                double[] values = number == typeof(int) ? [int.MinValue, -2, int.MaxValue]
                    : number == typeof(double) || number == typeof(float)
                        ? [double.NaN, double.NegativeInfinity, double.PositiveInfinity, -1, number == typeof(float) ? float.MaxValue : double.MaxValue]
                    : [];
                foreach (double value in values)
                {
                    data.Add(type.Name == "Options" ? type.DeclaringType!.Name : type.Name, property.Name, value);
                }
            }
        }

        return data;
    }

    public void Dispose() => _bench.Dispose();

    [Theory]
    [MemberData(nameof(Numbers))]
    public void A_number_that_makes_no_sense_is_refused_by_name_and_any_other_works(string type, string option, double value)
    {
        Exception? error = Record.Exception(() => Use(type, options => Set(options, option, value)));
        bool isNonsense = (value < 0 && !s_belowZero.Contains(option)) || !double.IsFinite(value);
        if (isNonsense)
        {
            OptionException refusal = Assert.IsType<OptionException>(error);
            Assert.Contains($"{option} is ", refusal.Message, StringComparison.Ordinal);
        }
        else
        {
            Assert.True(error is null or MLNetLoraException, $"{option} = {value}: {error}");
        }
    }

    [Fact]
    public void There_are_numbers_in_every_kind_of_options() =>
        Assert.Equal(
            ["GenerationOptions", "LoraOptions", "QwenLoraTrainer", "QwenLoraTransformer"],
            Numbers().Select(row => (string)((object[])row)[0]).Distinct().Order(StringComparer.Ordinal));

    private void Use(string type, Action<object> change)
    {
        switch (type)
        {
            case nameof(QwenLoraTrainer):
                // One step, so that what is allowed ends soon.
                using (_bench.Trainer(options =>
                {
                    options.MaximumSteps = 1;
                    change(options);
                    options.ProgressCallback = _ => throw new OperationCanceledException("a step was made");
                }).Fit(_bench.Rows))
                {
                    break;
                }

            case nameof(QwenLoraTransformer):
                using (QwenLoraTransformer model = _bench.Model())
                using (QwenLoraTransformer changed = model.With(change))
                {
                    _ = changed.Generate("what");
                    break;
                }

            case nameof(GenerationOptions):
                GenerationOptions generation = new() { MaximumNewTokens = 2 };
                change(generation);
                using (TextGenerator generator = new(Checkpoint.Open(_bench.BaseFolder)))
                {
                    _ = generator.Generate([new InstructionRow("what")], generation);
                    break;
                }

            default:
                LoraOptions lora = new();
                change(lora);
                lora.Validate();
                break;
        }
    }

    private static void Set(object options, string name, double value)
    {
        PropertyInfo property = options.GetType().GetProperty(name)!;
        Type number = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        property.SetValue(options, Convert.ChangeType(value, number, System.Globalization.CultureInfo.InvariantCulture));
    }
}
