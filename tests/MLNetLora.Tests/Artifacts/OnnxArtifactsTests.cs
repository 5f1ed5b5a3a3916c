using Google.Protobuf;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx.Proto;
using MLNetLora.Training;

namespace MLNetLora.Tests.Artifacts;

/// <summary>onnx-artifacts/ shows the models of a LoRA run on the nano checkpoint to people with a viewer; they must be what the library makes
/// today.</summary>
public sealed class OnnxArtifactsTests
{
    private static readonly Dictionary<string, Func<ModelArtifact>> s_artifacts = new()
    {
        ["training_model.onnx"] = () => TrainingModel.Training(Target(), checkpointing: false, ChunkPlan.Whole),
        ["eval_model.onnx"] = () => TrainingModel.Evaluation(Target(), ChunkPlan.Whole),
        ["gradient_norm_model.onnx"] = () => OptimizerModel.Norm(1),
        ["optimizer_model.onnx"] = () => OptimizerModel.Step(Optimizers.AdamW(0.9, 0.999, 1e-8)),
        ["inference_model.onnx"] = () => InferenceModel.Build(Checkpoint.Open(Repository.Nano), new AdapterParts(Target().Loras, [], null)),
    };

    public static TheoryData<string> Names => [.. s_artifacts.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void The_files_are_what_the_library_makes(string name)
    {
        string path = Path.Combine(Repository.Root, "onnx-artifacts", name);
        ModelArtifact artifact = s_artifacts[name]();
        Assert.Equal(name, artifact.Name);
        if (Environment.GetEnvironmentVariable("UPDATE_ONNX_ARTIFACTS") == "1")
        {
            artifact.Save(Path.GetDirectoryName(path)!);
        }

        Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(artifact.Bytes),
            $"{path} is not what the library makes today; run the tests once with UPDATE_ONNX_ARTIFACTS=1 and look at the difference.");
    }

    [Fact]
    public void Frozen_weights_point_into_the_checkpoint_and_every_trainable_tensor_has_a_gradient()
    {
        ModelProto model = ModelProto.Parser.ParseFrom(s_artifacts["training_model.onnx"]().Bytes);
        Assert.Equal(MLNetLora.Onnx.GraphBuilder.Opset, model.OpsetImport.Single(opset => opset.Domain.Length == 0).Version);
        TensorProto[] weights = [.. model.Graph.Initializer.Where(tensor => !tensor.Name.StartsWith("const/", StringComparison.Ordinal))];
        Assert.NotEmpty(weights);
        Assert.All(weights, tensor =>
        {
            Assert.Equal(TensorProto.Types.DataLocation.External, tensor.DataLocation);
            Assert.Equal(0, tensor.RawData.Length);
            Assert.Equal("model.safetensors", tensor.ExternalData.Single(entry => entry.Key == "location").Value);
        });
        string[] trainable = [.. Target().Trainables.Select(tensor => tensor.Name)];
        Assert.Equal(trainable.Select(name => name + ".gradient").Append("loss").Order(), model.Graph.Output.Select(output => output.Name).Order());
        Assert.All(trainable, name => Assert.Contains(model.Graph.Input, input => input.Name == name));
    }

    [Fact]
    public void Sessions_leave_the_floating_point_mode_of_their_caller_alone()
    {
        float smallest = 0;
        Thread thread = new(() =>
        {
            using (MLNetLora.Inference.CausalLanguageModel model = new(Checkpoint.Open(Repository.Nano), threads: 1))
            {
                model.Generate([[1, 2, 3]], new MLNetLora.Inference.GenerationOptions { MaximumNewTokens = 2 });
            }

            // A denormal number: zero where the thread has been switched to flush them.
            smallest = float.Epsilon * (smallest + 1);
        });
        thread.Start();
        thread.Join();
        Assert.NotEqual(0, smallest);
    }

    private static TrainingTarget Target() =>
        TrainingTarget.Lora(Checkpoint.Open(Repository.Nano), new LoraOptions { Rank = 8, TargetModules = ["q_proj", "v_proj"] });
}
